"""Chat rows as OpenAI, Hugging Face and mlx-lm write them: `{"messages": [{"role", "content"}, ...]}`.

Reasoning may stand under `reasoning_content`, `reasoning` or `thinking`, in think tags inside the content, or in the
`info` object of a-m-team files (`think_content`, `answer_content`, `reference_answer`, `test_case`). The last assistant
turn becomes the trace; everything before it is the prompt.

Kept both ways: messages, reasoning, answer, model, status, kind of trace, terms of use, and our own keys of a prompt
(reference, original, tests, source, licence, metadata). Not kept: engine, sampling, usage, cost, time, parents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.records import Prompt, Trace
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Imported
from localdistill.interchange.rows import (
    REASONING_KEYS,
    RowPlace,
    SplitReply,
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
from localdistill.templates.marks import begins_with_mark

OWN_KEYS = {"messages", "reference", "original", "tests", "source", "licence", "metadata"}


def ends_with_answer(turns: object) -> bool:
    """True when the last of `turns` is one of the assistant."""
    return isinstance(turns, list) and bool(turns) and isinstance(turns[-1], Mapping) and (
        turns[-1].get("role") == "assistant")


class MessagesLayout:
    """The `messages` layout."""

    name = "messages"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
        tagged = {"role": "assistant", "content": "<think>\neasy\n</think>\n\n2"}
        return (
            LayoutSample({"messages": [asked, said | {"reasoning_content": "easy"}]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"messages": [asked, tagged], "reference": "2"}, asks("1 + 1?", "2"), "2", "easy"),
            LayoutSample({"messages": [asked]}, asks("1 + 1?")),
            LayoutSample({"messages": [said]}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A list `messages`, unless the row is one of our own prompt rows."""
        turns = row.get("messages")
        is_own_prompt = len(row) > 1 and set(row) <= OWN_KEYS and not ends_with_answer(turns)
        return isinstance(turns, list) and not is_own_prompt

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation; InputError without a user turn or with turns that are not text."""
        place = RowPlace(source, number)
        turns = turns_at(row, "messages", place)
        has_answer = ends_with_answer(turns)
        asked = turns[:-1] if has_answer else turns
        messages = tuple(message_of(turn.get("role"), turn.get("content"), place) for turn in asked)
        info = next((mapping_at(turn, "info", place) for turn in reversed(asked) if turn.get("role") == "user"), {})
        prompt = prompt_of(messages, row, source, place, _text(info.get("reference_answer")),
                           _text(info.get("test_case")))
        if not has_answer:
            return Imported(prompt)
        reason = reason_in(turns[-1], mapping_at(turns[-1], "info", place), row)
        return imported(prompt, _answer(turns[-1], place), row, place, row.get("model"), reason)

    def write(self, prompt: Prompt, trace: Trace | None) -> Mapping[str, Any]:
        """Tags stay inside the content where the trace came that way; else reasoning gets its own key."""
        turns: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in prompt.messages]
        if trace is not None and is_faithful(trace):
            turns.append({"role": "assistant", "content": trace.raw})
        elif trace is not None:
            turns.append({"role": "assistant", "content": trace.answer, "reasoning_content": trace.reasoning})
            if begins_with_mark(trace.answer):  # it is text, and would be taken for reasoning without a word about it
                turns[-1]["info"] = {"think_content": trace.reasoning, "answer_content": trace.answer}
        return conversation_row("messages", turns, prompt, trace)


def _answer(turn: Mapping[str, Any], place: RowPlace) -> SplitReply:
    info = mapping_at(turn, "info", place)
    content = message_of("assistant", turn.get("content") if turn.get("content") is not None else "", place).content
    for key in REASONING_KEYS:
        if isinstance(turn.get(key), str):
            if (info.get("think_content"), info.get("answer_content")) == (turn[key], content):
                return SplitReply(turn[key], content)
            return answer_of(content, turn[key])
    return answer_of(content, stored=stored_parts(info))


def stored_parts(info: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reasoning and answer as an a-m-team `info` object states them, outer space removed; None unless both are text."""
    think, answer = info.get("think_content"), info.get("answer_content")
    if not isinstance(think, str) or not isinstance(answer, str):
        return None
    return think.strip(), answer.strip()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
