"""Alpaca rows: `{"instruction", "input", "output", "system"?, "history"?}`; reasoning as think tags inside `output`,
or in a column of its own.

What the layout cannot hold:

| lost | what happens |
| --- | --- |
| the border of instruction and input | read as one user turn, joined by a blank line; written as `instruction` |
| system turns after the first turn | writing raises InputError |
| turns that do not alternate user, assistant | writing raises InputError |
| definitions, calls and results of tools | writing raises InputError |
| reasoning of earlier turns, raw reply | not written |
| an output whose text holds think tags of its own | is split there when read again |
| a system turn that says nothing | is none when read again |
| an answer that says nothing | is no answer when read again |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.records import Message
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import ANSWER, BORDER, FIRST_RAW, OF_ASKING, SPACE, TURNS
from localdistill.interchange.rows import (
    RowPlace,
    answer_of,
    imported,
    optional_text,
    prompt_of,
    reason_in,
    text_at,
)
from localdistill.interchange.usual import MODEL, REASONING, first, is_short, text_of
from localdistill.interchange.written import PROMPT_COLUMNS, TRACE_COLUMNS, beside_turns, only_trace, said


class AlpacaLayout:
    """The `alpaca` layout."""

    name = "alpaca"
    writing = Writing(
        {"instruction": "text", "input": "text", "output": "text", "system": "text", "history": [["text"]],
         **PROMPT_COLUMNS, **TRACE_COLUMNS},
        ("tags",), OF_ASKING | FIRST_RAW | {SPACE, BORDER, ANSWER, TURNS},
        read_by={
            "llama-factory": "dataset_info.json: formatting alpaca",
            "axolotl": "type: alpaca",
        })

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        row = {"instruction": "Add.", "input": "1 + 1", "output": "<think>\neasy\n</think>\n\n2"}
        return (
            LayoutSample(row, asks("Add.\n\n1 + 1"), "2", "easy"),
            LayoutSample(row | {"output": ""}, asks("Add.\n\n1 + 1")),
            LayoutSample(row | {"instruction": " ", "input": ""}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """`instruction` and `output`."""
        return "instruction" in row and "output" in row

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """Instruction and input as one user turn; the output as trace, none when it is empty."""
        place = RowPlace(source, number)
        messages: list[Message] = []
        if system := optional_text(row, "system", place):
            messages.append(Message("system", system))
        messages += _history(row.get("history"), place)
        asked = "\n\n".join(filter(None, (text_at(row, "instruction", place), optional_text(row, "input", place))))
        if not asked.strip():
            raise place.error("there is no user turn", "'instruction' is empty")
        prompt = prompt_of((*messages, Message("user", asked)), row, source, place, _reference(row))
        output, beside = optional_text(row, "output", place) or "", first(row, REASONING)
        return imported(prompt, answer_of(output, beside) if output.strip() or beside else None, row, place,
                        first(row, MODEL), reason_in(row))

    def write(self, item: Imported, reasoning: Reasoning = "tags") -> Mapping[str, Any]:
        """One row; InputError when the turns do not fit the layout."""
        turns, trace = list(item.prompt.messages), only_trace(item)
        if item.uses_tools:
            raise InputError("an alpaca row has no place for tools", "write this conversation as messages")
        system = turns.pop(0).content if turns and turns[0].role == "system" else ""
        roles = [message.role for message in turns]
        if roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
            raise InputError("an alpaca row holds one system turn, then user and assistant in turns, then a user",
                             "write this conversation as messages")
        output = said(trace, "tags")["content"] if trace else ""
        history = [[turns[i].content, turns[i + 1].content] for i in range(0, len(turns) - 1, 2)]
        row = {"instruction": turns[-1].content, "input": "", "output": output, "system": system, "history": history}
        return {**row, **beside_turns(item)}


def _reference(row: Mapping[str, Any]) -> str | None:
    """A short `answer` beside the output is what is right."""
    text = text_of(row.get("answer"))
    return text if text is not None and is_short(text) else None


def _history(value: object, place: RowPlace) -> list[Message]:
    if value is None:
        return []
    messages: list[Message] = []
    for pair in value if isinstance(value, list) else [value]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise place.error("'history' is not a list of [question, answer]")
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages
