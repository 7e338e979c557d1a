"""Real chat templates beside what transformers made of them: the text of conversations, and which of it is trained.

    python -m benchmarks.chat_templates FOLDER [--all]

FOLDER (or the variable CHAT_TEMPLATES) holds `render_conversations.json` (conversations with their tools),
`renders_transformers.jsonl` (template, conversation, text or error, and `assistant_spans`, the ranges that a trainer
learns), and the templates under the paths that the second file names. Every rendering must be equal, or differ for a
reason of the table below; every mask of a last turn must begin where generation begins and end with the turn. Ends with
status 1 where something differs that nobody named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, TemplateRefused
from localdistill.core.messages import Message
from localdistill.core.records import Example, ExampleTurn, Span
from localdistill.interchange.conversation import read_turns, with_tools
from localdistill.interchange.rows import RowPlace
from localdistill.modelfiles.target_turns import LaidTurn, laid_turn
from localdistill.templates import ChatTemplate
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END, opens_thinking_tag, split_thinking
from localdistill.templates.tool_calls import definitions_in

BOS, EOS = "<s>", "</s>"
_DATE = re.compile(r"\d{1,2} [A-Z][a-z]{2,8},? \d{4}|[A-Z][a-z]{2,8} \d{1,2},? \d{4}|\d{4}-\d{2}-\d{2}")


def main() -> None:
    """Compare all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("CHAT_TEMPLATES"))
    parser.add_argument("--all", action="store_true", help="print equal ones, too")
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("name the folder, or set CHAT_TEMPLATES")
    folder = Path(arguments.folder)
    talks = {row["id"]: row for row in json.loads((folder / "render_conversations.json").read_text())}
    counts: dict[str, Counter[str]] = {"text": Counter(), "mask": Counter()}
    unnamed = 0
    for line in (folder / "renders_transformers.jsonl").read_text().splitlines():
        row = json.loads(line)
        source = (folder / row["template"]).read_text()
        talk = talks[row["conversation"]]
        template = ChatTemplate(source, BOS, EOS, isolated=False, origin=row["template"])
        found = {"text": text_of(template, talk, row)}
        if "text" in row and row.get("assistant_spans") and talk["messages"][-1]["role"] == "assistant":
            found["mask"] = mask_of(template, talk, row)
        for what, (name, why) in found.items():
            counts[what][name] += 1
            unnamed += name == "DIFFERS"
            if arguments.all or not name.startswith("equal"):
                print(f"{what:5} {name:34} {row['template']} {row['conversation']}: {why}")
    for what, counter in counts.items():
        print(f"\n{what}: {counter.total()}")
        for name, count in counter.most_common():
            print(f"  {count:4} {name}")
    raise SystemExit(1 if unnamed else 0)


def messages_of(talk: Mapping[str, Any]) -> list[Message]:
    """The turns as an import reads them."""
    turns = tuple(turn.message for turn in read_turns(talk["messages"], RowPlace(talk["id"], 1)))
    return list(with_tools(turns, definitions_in(talk["tools"]) or () if talk["tools"] else ()))


def text_of(template: ChatTemplate, talk: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, str]:
    """How our rendering compares, and what to say of it."""
    try:
        ours = template.render(messages_of(talk), talk["add_generation_prompt"])
    except TemplateRefused as refusal:
        return ("refused by both" if "error" in row else "refused by us, with a reason"), refusal.reason
    if "error" in row:
        return "rendered by us alone", str(row["error"])[:80]
    if ours == row["text"]:
        return "equal", ""
    if row["dynamic_date"] and _DATE.sub("DATE", ours) == _DATE.sub("DATE", row["text"]):
        return "equal but for the date", ""
    return named_difference(template, talk, ours, row["text"]), first_difference(ours, row["text"])


def named_difference(template: ChatTemplate, talk: Mapping[str, Any], ours: str, theirs: str) -> str:
    """Why ours may differ: what theirs leaves out or spoils of what the conversation holds."""
    thoughts = [turn["reasoning_content"] for turn in talk["messages"] if "reasoning_content" in turn]
    if thoughts and any(one in ours and one not in theirs for one in thoughts):
        return f"reasoning stands under '{template.reasoning_name}'"
    if talk["tools"] and "{'" in theirs and "{'" not in ours:
        return "theirs writes Python, ours JSON"
    if talk["tools"] and template.tool_manners.ids != "any":
        return f"ids of calls are '{template.tool_manners.ids}'"
    return "DIFFERS"


def first_difference(ours: str, theirs: str) -> str:
    """Where two texts part."""
    places = enumerate(zip(ours, theirs, strict=False))
    place = next((place for place, (a, b) in places if a != b), min(len(ours), len(theirs)))
    begin = max(0, place - 20)
    return f"ours {ours[begin:place + 60]!r} theirs {theirs[begin:place + 60]!r}"


def mask_of(template: ChatTemplate, talk: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, str]:
    """How what we train of the last turn compares with the last stored range."""
    *context, last = messages_of(talk)
    begin, end = row["assistant_spans"][-1]
    split = split_thinking(last.content)
    reasoning, answer = (last.reasoning, last.content) if last.reasoning else (split.reasoning, split.answer)
    reasoning = reasoning if reasoning in row["text"] else ""  # what the template leaves out is no part of it
    spans = (Span(THOUGHT_BEGIN, 1.0, "tag"), Span(reasoning, 1.0, "reasoning"), Span(THOUGHT_END, 1.0, "tag"),
             Span(answer)) if reasoning else (Span(answer),)
    turns = [ExampleTurn(turn.role, (Span(turn.content, 0.0, "prompt"),), turn) for turn in context]
    try:
        laid = laid_turn(Example("", "", (*turns, ExampleTurn("assistant", spans)), bool(reasoning)), template)
        again = template.render([*context, last], thinks=bool(reasoning))
    except LocalDistillError as error:
        return "refused by us, with a reason", error.message[:120]
    if not isinstance(laid, LaidTurn):
        return "refused by us, with a reason", laid
    said, stored = "".join(span.text for span in laid.spans), row["text"]
    if row["dynamic_date"]:
        laid, stored = replace(laid, prompt=_DATE.sub("DATE", laid.prompt)), _DATE.sub("DATE", stored)
        again, begin, end = _DATE.sub("DATE", again), *(at - len(row["text"]) + len(stored) for at in (begin, end))
    ours, theirs = laid.prompt + said + laid.ending, stored[begin:end]
    if theirs.startswith(said) and laid.prompt == stored[:begin] and laid.ending.startswith(theirs[len(said):]):
        return "equal", ""
    if ours == stored:
        wider = begin < len(laid.prompt) and len(laid.prompt + said) < end
        return ("equal, and theirs trains what the prompt gives" if wider else "same text, but theirs leaves out"
                ), f"theirs {theirs!r}, ours {(said + laid.ending)!r}"
    if ours == again:
        return "equal, with thinking switched as we do", first_difference(ours, stored)
    if opens_thinking_tag(laid.prompt) and not reasoning:
        return "the block that the prompt opens is closed", first_difference(ours, stored)
    if split.found and template.thought_marks != (THOUGHT_BEGIN, THOUGHT_END):
        return "inline reasoning stands in the template's own marks", first_difference(ours, stored)
    return "DIFFERS", first_difference(ours, stored)


if __name__ == "__main__":
    main()
