"""The messages dialect by itself: only a stop reason behind the words, or the end of the message, ends a reply."""

from __future__ import annotations

from typing import Any

import pytest

from localdistill.core.records import Reply
from localdistill.engines.wire.anthropic_messages import Messages
from localdistill.engines.wire.collected import reply_of

START: dict[str, Any] = {"type": "message_start", "message": {"id": "m1", "usage": {"input_tokens": 3}}}
USAGE = {"output_tokens": 4}


def text(words: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}


def end(reason: str | None) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": USAGE}


STOP = {"type": "message_stop"}


def reply_to(*events: dict[str, Any]) -> Reply:
    dialect = Messages()
    fold = dialect.fold()
    for event in events:
        fold.take(event)
    return reply_of(dialect.collect(fold.body()), "r", "", 100, 0.0, is_whole=fold.ended)


@pytest.mark.parametrize(("events", "status"), [
    ([START, text("It is"), text(" 6."), end("end_turn"), STOP], "complete"),
    ([START, text("It is"), text(" 6."), end("end_turn")], "complete"),
    ([START, text("It is"), end(""), text(" 6."), end("")], "truncated"),
    ([START, text("It is"), end(""), text(" 6."), end(""), STOP], "complete"),
    ([START, text("It is"), text(" 6."), STOP], "truncated"),
    ([START, text("It is"), text(" 6."), end("end_turn"), end("")], "complete"),
    ([START, text("It is"), end("end_turn"), text(" 6.")], "truncated"),
    ([START, text("It is"), end("end_turn"), text(" 6."), end("end_turn")], "truncated"),
    ([START, text("It is"), end("end_turn"), text(" 6."), end("end_turn"), STOP], "complete"),
    ([START, text("It is"), text(" 6."), end("max_tokens"), STOP], "length"),
    ([START, text("It is"), text(" 6."), end("nova"), STOP], "error"),
    ([{**START, "message": {**START["message"], "stop_reason": "end_turn"}}, text("It is"), text(" 6.")], "truncated"),
])
def test_what_ends_a_message(events: list[dict[str, Any]], status: str) -> None:
    reply = reply_to(*events)
    assert (reply.status, reply.answer) == (status, "It is 6.")
