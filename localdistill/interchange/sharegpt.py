"""ShareGPT rows: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}], "system": ...}`, also with
the keys `role` and `content`, and with the `info` object of later a-m-team files (`ground_truth`, `think_content`,
`answer_content`, `model_name`).

Calls of tools are turns of `function_call` with the JSON of one or a list, what tools answer turns of `observation`,
and `tools` holds their definitions as JSON text.

The last assistant turn becomes the answer. The same things are kept as in `messages`; reasoning travels as think tags
inside `value`, and in `info` too where tags alone could not give it back exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.messages import Message, ToolCall
from localdistill.core.records import Prompt
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Shape, Writing
from localdistill.interchange.conversation import read_conversation
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import FIRST_RAW, OF_ASKING, SPACE
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.turn_forms import turns_in
from localdistill.interchange.written import (
    ANSWERING,
    PROMPT_COLUMNS,
    STATED,
    TRACE_COLUMNS,
    answering,
    beside_turns,
    is_faithful,
    only_trace,
    said,
)
from localdistill.templates import join_thinking
from localdistill.templates.tool_calls import arguments_of, tool_call

_NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_TURN: Mapping[str, Shape] = {"from": "text", "value": "text", "info": STATED}


class ShareGptLayout:
    """The `sharegpt` layout."""

    name = "sharegpt"
    writing = Writing(
        {"conversations": [_TURN], **PROMPT_COLUMNS, **TRACE_COLUMNS},
        ("tags", "kept"), OF_ASKING | FIRST_RAW | {SPACE},
        read_by={
            "llama-factory": "dataset_info.json: formatting sharegpt",
            "axolotl": "type: chat_template with field_messages: conversations",
        }, with_tools={"conversations": [{**_TURN, **ANSWERING}], "tools": "text"})

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = {"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "<think>\neasy\n</think>\n\n2"}
        called = Message("assistant", "", tool_calls=(tool_call("sum", {}),))
        using = Prompt((Message("user", "1 + 1?", tools=({"type": "function", "function": {"name": "sum"}},)), called,
                        Message("tool", "2")))
        return (
            LayoutSample({"conversations": [asked, said]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"conversations": [asked]}, asks("1 + 1?")),
            LayoutSample({"conversations": [said]}, asks(""), refused="there is no user turn"),
            LayoutSample({"conversations": [asked, {"from": "function_call", "value": '{"name": "sum"}'},
                                            {"from": "observation", "value": "2"}, said], "tools": '[{"name": "sum"}]'},
                         using, "2", "easy"),
            LayoutSample({"conversations": [asked, {"from": "function_call", "value": "sum!"}]}, asks(""),
                         refused="names none"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A list `conversations`, or turns in another arrangement under that name."""
        return isinstance(row.get("conversations"), list) or turns_in(row.get("conversations")) is not None

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation; InputError without a human turn or with an unknown speaker."""
        place = RowPlace(source, number)
        turns = turns_in(row.get("conversations"))
        if turns is None:
            raise place.error("'conversations' is not a list of turns")
        return read_conversation(row, turns, place)

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """System turns become turns, so that their place is kept."""
        turns: list[dict[str, Any]] = []
        for turn in item.prompt.messages:
            turns += _written(_NAMES[turn.role], _text(turn), turn.tool_calls, answering(turn))
        trace = only_trace(item)
        if trace is not None:
            text = said(trace, reasoning if is_faithful(trace) else "tags")
            turns += _written("gpt", {"value": text.pop("content"), **text}, trace.tool_calls)
        beside = beside_turns(item)
        return {"conversations": turns, **beside,
                **({"tools": json.dumps(beside["tools"], ensure_ascii=False)} if "tools" in beside else {})}


def _text(turn: Message) -> dict[str, Any]:
    """The text of an earlier turn, with where its reasoning ends."""
    if not turn.reasoning:
        return {"value": turn.content}
    return {"value": join_thinking(turn.reasoning, turn.content),
            "info": {"think_content": turn.reasoning, "answer_content": turn.content}}


def _written(name: str, text: dict[str, Any], calls: Sequence[ToolCall],
             more: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The turns of one turn: what it says, and what it calls."""
    spoken = [{"from": name, **text, **(more or {})}] if text["value"] or not calls else []
    if not calls:
        return spoken
    written = [_call(call) for call in calls]
    value = json.dumps(written if len(written) > 1 else written[0], ensure_ascii=False)
    return [*spoken, {"from": "function_call", "value": value}]


def _call(call: ToolCall) -> dict[str, Any]:
    """A call as such rows have it: the arguments as an object, where that gives the same text again."""
    text, value = call["function"].get("arguments", ""), arguments_of(call)
    is_same = isinstance(value, dict) and json.dumps(value, ensure_ascii=False) == text
    key = {"id": call["id"]} if call.get("id") else {}
    return {"name": call["function"].get("name", ""), "arguments": value if is_same else text, **key}
