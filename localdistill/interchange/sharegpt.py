"""ShareGPT rows: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}], "system": ...}`, also with
the keys `role` and `content`, and with the `info` object of later a-m-team files (`ground_truth`, `think_content`,
`answer_content`, `model_name`).

The last assistant turn becomes the trace. The same things are kept as in `messages`; reasoning travels as think tags
inside `value`, and in `info` too where tags alone could not give it back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.records import Message, Prompt, Trace
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Imported
from localdistill.interchange.messages import stored_parts
from localdistill.interchange.rows import (
    ROLES,
    RowPlace,
    answer_of,
    conversation_row,
    imported,
    is_faithful,
    mapping_at,
    message_of,
    prompt_of,
    reason_in,
    turns_at,
)
from localdistill.templates import join_thinking

_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


class ShareGptLayout:
    """The `sharegpt` layout."""

    name = "sharegpt"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = {"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "<think>\neasy\n</think>\n\n2"}
        return (
            LayoutSample({"conversations": [asked, said]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"conversations": [asked]}, asks("1 + 1?")),
            LayoutSample({"conversations": [said]}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A list `conversations`."""
        return isinstance(row.get("conversations"), list)

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation; InputError without a human turn or with an unknown speaker."""
        place = RowPlace(source, number)
        turns = turns_at(row, "conversations", place)
        messages = [message_of(_speaker(turn), turn.get("value", turn.get("content")), place) for turn in turns]
        has_answer = bool(turns) and messages[-1].role == "assistant"
        asked = messages[:-1] if has_answer else messages
        system = row.get("system")
        if isinstance(system, str) and system:
            asked.insert(0, Message("system", system))
        prompt = prompt_of(tuple(asked), row, source, place, _fact(turns, "ground_truth") or
                           _fact(turns, "reference_answer"), _fact(turns, "test_case"))
        info = mapping_at(turns[-1], "info", place) if has_answer else {}
        answer = answer_of(messages[-1].content, stored=stored_parts(info)) if has_answer else None
        reason = reason_in(turns[-1], info, row) if has_answer else None
        return imported(prompt, answer, row, place, row.get("model") or info.get("model_name"), reason)

    def write(self, prompt: Prompt, trace: Trace | None) -> Mapping[str, Any]:
        """System turns become turns, so that their place is kept."""
        turns: list[dict[str, Any]] = [{"from": _NAMES[m.role], "value": m.content} for m in prompt.messages]
        if trace is not None and is_faithful(trace):
            turns.append({"from": "gpt", "value": trace.raw})
        elif trace is not None:
            value = join_thinking(trace.reasoning, trace.answer) if trace.reasoning else trace.answer
            info = {"think_content": trace.reasoning, "answer_content": trace.answer}
            turns.append({"from": "gpt", "value": value, "info": info})
        return conversation_row("conversations", turns, prompt, trace)


def _speaker(turn: Mapping[str, Any]) -> object:
    speaker = turn.get("from", turn.get("role"))
    return speaker.lower() if isinstance(speaker, str) and speaker.lower() in ROLES else speaker


def _fact(turns: Sequence[Mapping[str, Any]], key: str) -> str | None:
    """The first text under `key` in the `info` objects of the turns."""
    infos = [turn.get("info") for turn in turns]
    return next((i[key] for i in infos if isinstance(i, Mapping) and isinstance(i.get(key), str)), None)
