"""What an item loses on its way through a layout: found by comparing what was written, read again, with what it was.
The fields of the records say what is compared, so that a new one is missed by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from localdistill.core.records import Prompt, Trace
from localdistill.interchange.imported import Imported

ANSWER = "the answer"
BORDER = "the border of reasoning and answer"
SPACE = "white space around reasoning and answer"
SOURCE = "the file it came from"
TURNS = "turns of the conversation"
VERDICT = "the verdict"
FACTS = "what graders, labels and people say, but for the verdict"
HALVES = "half characters, which become U+FFFD"
_WORDS: Mapping[str, str] = {
    "messages": TURNS, "source": SOURCE, "tool_calls": "calls of tools",
    "reference": "the reference answer", "original": "the original response", "tests": "the tests",
    "licence": "the licence", "metadata": "the metadata", "model": "the model", "status": "how it ended",
    "finish_reason": "how it ended", "trace_kind": "the kind of reasoning", "terms": "the terms of use",
    "raw": "the reply as it came", "parent_id": "the lineage", "rewrite": "the lineage",
    **dict.fromkeys(("engine", "sampling", "sample_index", "asked", "thinks"), "how it was asked"),
    **dict.fromkeys(("usage", "cost_usd", "elapsed_s"), "usage, cost and time"),
}  # fmt: skip
"""What fields are called; those of one name are counted together, and one without stands under its own."""
_DERIVED = frozenset({"id", "prompt_id", "reasoning", "answer"})
"""Follow from other fields, or are compared closer."""
OF_ASKING = frozenset({"how it was asked", "usage, cost and time", "the lineage", FACTS, HALVES})
"""No layout of others has a place for these."""
FIRST_RAW = frozenset({"the reply as it came"})
OF_ANSWERS = frozenset({"the model", "how it ended", "the kind of reasoning", "the terms of use", SOURCE})
"""What is said of each answer by itself."""


def lost_between(item: Imported, again: Imported) -> set[str]:
    """What `item` had and `again`, the same after it was written and read, has not, by its name for people."""
    lost = set(_differing(item.prompt, again.prompt, Prompt))
    if len(item.answers) != len(again.answers):
        return lost | {ANSWER}
    for one, other in zip(item.answers, again.answers, strict=True):
        differing = set(_differing(one.trace, other.trace, Trace))
        if bool(one.trace.reasoning) != bool(other.trace.reasoning):  # its kind goes with the border
            differing.discard(_WORDS["trace_kind"])
        lost |= differing
        if one.right is not other.right:
            lost.add(VERDICT)
        texts, read = ((trace.reasoning, trace.answer) for trace in (one.trace, other.trace))
        if texts != read:
            lost.add(SPACE if [*map(str.strip, texts)] == [*map(str.strip, read)] else BORDER)
    return lost


_COMPARED = {kind: tuple(one.name for one in fields(kind) if one.name not in _DERIVED) for kind in (Prompt, Trace)}


def _differing(one: Prompt | Trace, other: Prompt | Trace, kind: type[Prompt | Trace]) -> Iterator[str]:
    for name in _COMPARED[kind]:
        if getattr(one, name) != getattr(other, name):
            yield _WORDS.get(name, name)
