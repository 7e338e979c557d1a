"""Chat rows as OpenAI, Hugging Face and mlx-lm write them: `{"messages": [{"role", "content"}, ...]}`.

Reasoning may stand in a field of its own, in typed parts, in think tags inside the content, in the `info` object of
a-m-team files (`think_content`, `answer_content`, `reference_answer`, `test_case`), or in columns beside the turns. The
last assistant turn becomes the answer; everything before it is the prompt.

Tools stand as chat completions have them: `tools` beside the turns, `tool_calls` in a turn of the assistant, turns of
the role `tool`.

Kept both ways: messages, tools, reasoning, answer, model, status, kind of trace, terms of use, and our own keys of a
prompt (reference, original, tests, source, licence, metadata). Not kept: engine, sampling, usage, cost, time, parents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from localdistill.core.records import Message, Prompt
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.conversation import read_conversation
from localdistill.interchange.imported import Imported
from localdistill.interchange.known_sets import known_set
from localdistill.interchange.losses import FIRST_RAW, OF_ASKING, SPACE
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.turn_forms import turns_in
from localdistill.interchange.written import (
    PROMPT_COLUMNS,
    TOOL_TURN,
    TRACE_COLUMNS,
    TURN,
    answer_turn,
    beside_turns,
    only_trace,
    turn_of,
)

OWN_KEYS = {"messages", "reference", "original", "tests", "source", "licence", "metadata", "tools"}
_KEYS = ("messages", "conversation", "dialogue", "chat", "contents", "text")


def ends_with_answer(turns: object) -> bool:
    """True when the last of `turns` is one of the assistant."""
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], Mapping) and (
        turns[-1].get("role") == "assistant")


class MessagesLayout:
    """The `messages` layout."""

    name = "messages"
    writing = Writing(
        {"messages": [TURN], **PROMPT_COLUMNS, **TRACE_COLUMNS}, ("field", "tags", "kept"),
        OF_ASKING | FIRST_RAW | {SPACE},
        read_by={
            "trl": "SFTTrainer takes the column messages as it is",
            "axolotl": "type: chat_template",
            "unsloth": "apply_chat_template, then train_on_responses_only",
            "mlx-lm": "--data FOLDER, where FOLDER holds train.jsonl",
        }, with_tools={"messages": [TOOL_TURN], "tools": "json"})

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
        tagged = {"role": "assistant", "content": "<think>\neasy\n</think>\n\n2"}
        parts = [{"type": "thinking", "thinking": "easy"}, {"type": "text", "text": "2"}]
        sums = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}
        calls = [{"id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"of": [1, 1]}'}}]
        calling, result = said | {"content": "", "tool_calls": calls}, {"role": "tool", "content": "2"}
        told = Message("tool", "2", call_id="c1", name="sum")
        using = Prompt((replace(Message("user", "1 + 1?"), tools=(sums,)),
                        Message("assistant", "", tool_calls=tuple(calls)), told))
        return (
            LayoutSample({"messages": [asked, said | {"reasoning_content": "easy"}]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"messages": [asked, said | {"content": parts}]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"messages": [asked, tagged], "reference": "2"}, asks("1 + 1?", "2"), "2", "easy"),
            LayoutSample({"messages": [asked], "reasoning": "easy", "answer": "2", "model": "m"}, asks("1 + 1?"), "2",
                         "easy"),
            LayoutSample({"messages": [asked], "ground_truth": "2"}, asks("1 + 1?", "2")),
            LayoutSample({"messages": [asked]}, asks("1 + 1?")),
            LayoutSample({"messages": [said]}, asks(""), refused="there is no user turn"),
            LayoutSample({"messages": [asked, calling, result | {"tool_call_id": "c1", "name": "sum"}, said],
                          "tools": [sums]}, using, "2"),
            LayoutSample({"messages": [asked, said | {"tool_calls": [{"function": {}}]}]}, asks(""),
                         refused="names none"),
            LayoutSample({"messages": [asked, said], "tools": "a hammer"}, asks(""), refused="no definitions"),
            LayoutSample({"messages": [asked, tagged | {"role": "user"}]}, asks(""), refused="both the user's"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A list of turns under `messages`, unless the row is one of our own prompt rows or of a set whose columns say
        more."""
        turns = row.get("messages")
        is_own_prompt = len(row) > 1 and set(row) <= OWN_KEYS and not ends_with_answer(turns)
        return _key(row) is not None and not is_own_prompt and known_set(row) is None

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation; InputError without a user turn or with turns that are not text."""
        place = RowPlace(source, number)
        key = "messages" if isinstance(row.get("messages"), list) else _key(row) or "messages"
        turns = turns_in(row.get(key))
        if turns is None:
            raise place.error(f"'{key}' is not a list of turns")
        return read_conversation(row, turns, place)

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """The turns, and beside them what else is known."""
        trace = only_trace(item)
        answer = [answer_turn(trace, reasoning)] if trace else []
        return {"messages": [*map(turn_of, item.prompt.messages), *answer], **beside_turns(item)}


def _key(row: Mapping[str, Any]) -> str | None:
    """The column that holds the turns."""
    return next((key for key in _KEYS if key in row and (
        (isinstance(row.get(key), list) and key != "text") or turns_in(row.get(key)))), None)
