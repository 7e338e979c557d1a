"""Turns that say nothing but what is said are read in a way of their own, which comes to what the reading of any turns
comes to, or is not taken."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.interchange import conversation
from localdistill.interchange.conversation import prompt_and_answer, read_conversation, read_turns
from localdistill.interchange.plain_talk import plain_talk
from localdistill.interchange.row import Row
from localdistill.interchange.rows import RowPlace

PLACE = RowPlace("f.jsonl", 1)
SPOKEN: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "1 + 1?"}, {"from": "human", "value": "and?"}, {"role": "system", "content": ""},
    {"role": "assistant", "content": "2"}, {"role": "assistant", "content": "<think>\nadd\n</think>\n\n2"},
    {"role": "assistant", "content": "2", "reasoning_content": "add"}, {"from": "gpt", "value": "", "thinking": ""},
    {"role": "assistant", "content": "add, so 2", "reasoning": "add", "loss_weight": 0})
ANSWER = {"role": "assistant", "content": "2"}
ODD: tuple[Any, ...] = (
    {"role": "Human", "content": "?"}, {"role": "user", "content": "?", "reasoning": "r"},
    {"role": "robot", "content": ""},
    {"role": "tool", "content": "5"}, {"role": "user", "from": "gpt", "content": "?"},
    {"role": "user", "text": "?", "value": ""},
    ANSWER | {"content": None}, ANSWER | {"content": ["parts"]}, ANSWER | {"reasoning_content": None},
    ANSWER | {"tool_calls": []}, ANSWER | {"channel": "analysis"}, ANSWER | {"info": {"think_content": "a"}},
    ANSWER | {"finish_reason": "length"}, ANSWER | {"reasoning": "a", "thinking": "b"}, {}, "text", None)


def test_it_comes_to_the_same_as_the_reading_of_any_turns() -> None:
    for turns in (list(turns) for size in (1, 2, 3) for turns in product(SPOKEN, repeat=size)):
        found, read = plain_talk(turns), read_turns(turns, PLACE)
        if any(one.role == other.role for one, other in pairwise(read)):
            assert found is None
            continue
        messages, last = prompt_and_answer(read, PLACE)
        assert found == (messages, (last.text, last.beside) if last else None)


def test_a_turn_that_may_say_more_is_left_to_the_reading_of_any() -> None:
    for odd in ODD:
        assert plain_talk([SPOKEN[0], odd]) is None and plain_talk([odd]) is None, odd


@pytest.mark.parametrize("beside", [{}, {"reference": "2"}, {"reasoning": "add"}, {"answer": "2"}, {"response": "3"},
                                    {"system": "Add."}, {"tools": "a hammer"}, {"finish_reason": "length"},
                                    {"model": "m", "verified": "no", "status": "odd"}, {"metadata": {"a": 1}}])
def test_a_row_comes_to_the_same_both_ways(beside: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(turns: list[dict[str, Any]]) -> tuple[str, list[str]]:
        row = Row({"messages": turns, **beside})
        row.get("messages")
        try:
            return repr(read_conversation(row, turns, PLACE)), row.unused()
        except InputError as error:
            return error.message, []

    talks = [list(turns) for turns in product(SPOKEN, repeat=2)]
    plainly = list(map(read, talks))
    monkeypatch.setattr(conversation, "plain_talk", lambda turns: None)
    assert list(map(read, talks)) == plainly
