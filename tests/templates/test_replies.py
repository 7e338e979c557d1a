from __future__ import annotations

import pytest

from localdistill.templates import reply_of_text


@pytest.mark.parametrize(("text", "finish", "status", "reasoning", "answer", "kind"), [
    ("<think>r</think>a", "stop", "complete", "r", "a", "raw"),
    ("a", "stop", "complete", "", "a", "none"),
    ("", "stop", "empty", "", "", "none"),
    ("<think>r</think>", "stop", "reasoning_only", "r", "", "raw"),
    ("<think>r", "length", "length", "r", "", "raw"),
    ("a a a", "looping", "looping", "", "a a a", "none"),
])
def test_status_of_generated_text(text: str, finish: str, status: str, reasoning: str, answer: str, kind: str) -> None:
    reply = reply_of_text("id", text, finish)  # type: ignore[arg-type]
    assert (reply.status, reply.reasoning, reply.answer, reply.trace_kind) == (status, reasoning, answer, kind)
    assert reply.raw == text and reply.cost_usd == 0.0


def test_tags_can_be_left_alone() -> None:
    assert reply_of_text("id", "<think>r</think>a", "stop", splits=False).answer == "<think>r</think>a"
