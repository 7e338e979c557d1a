"""Counts and money: a lie about usage costs nobody more than is counted, and a cap holds whatever goes wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest

from localdistill.callbook import CallBook
from localdistill.errors import BudgetReached, LocalDistillError
from localdistill.events import Cancel, silent
from localdistill.records import Reply
from tests.faults import FaultServer, Rule, Script, Step
from tests.faults.asking import KINDS, ask, doubles, engine_for, first, is_right, request_for
from tests.helpers import wait_for

kinds = pytest.mark.parametrize("kind", KINDS)


def counted(prompt: Any, new: Any) -> dict[str, Any]:
    """A usage object in the words of both forms."""
    return {"prompt_tokens": prompt, "completion_tokens": new, "input_tokens": prompt, "output_tokens": new}


LIES = [None, {}, -1, "many", [1], counted(-5, -9), counted("7", "9"), counted(None, None), counted(10**30, 10**30),
        counted(1.5, 1e300), counted(True, True), counted(0, 0)]


@kinds
@pytest.mark.parametrize("usage", LIES, ids=str)
@pytest.mark.parametrize("stream", [True, False])
def test_lies_about_usage_are_estimated_and_charged_in_full(
        server: FaultServer, kind: str, usage: Any, stream: bool) -> None:
    server.play(Script(default=Step(usage=usage)))
    engine = engine_for(server.url, kind, stream=stream, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.book = book = CallBook()
    (reply,) = ask(engine, ["Double 7"])
    assert is_right(reply) and reply.usage.estimated
    assert reply.usage.completion_tokens > 0 and reply.usage.prompt_tokens >= 0
    assert reply.cost_usd is not None and 0 < reply.cost_usd == pytest.approx(book.spent_usd)
    assert book.spent_usd >= server.billed_usd(1.0, 2.0)


@kinds
def test_a_stream_that_ends_in_an_error_is_charged(server: FaultServer, kind: str) -> None:
    server.play(first(Step(error_after=6), times=2))
    engine = engine_for(server.url, kind, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.book = book = CallBook()
    (reply,) = ask(engine, ["Double 7"])
    assert is_right(reply) and len(server.requests) == 3
    assert book.spent_usd >= server.billed_usd(1.0, 2.0)
    assert reply.cost_usd == pytest.approx(book.spent_usd)


@kinds
def test_a_cap_holds_while_everything_goes_wrong(server: FaultServer, kind: str) -> None:
    server.play(Script(rules=tuple(Rule(step, question=f".*{n}", times=2, per_question=True) for n, step in enumerate((
        Step(cut=500), Step(error_after=5), Step(usage=None), Step(cut=300, ending="reset"), Step(finish="length"),
        Step(status=500), Step(usage={"completion_tokens": -1}))))))
    engine = engine_for(server.url, kind, concurrency=64, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.book = book = CallBook(cap_usd=0.08)
    got: list[Reply] = []
    with pytest.raises(BudgetReached, match="cap"):
        for reply in engine.answer((request_for(q) for q in doubles(2000)), silent, Cancel()):
            got.append(reply)
    engine.close()
    assert len(got) > 20 and len({r.request_id for r in got}) == len(got)
    assert server.billed_usd(1.0, 2.0) <= book.spent_usd <= 0.08


@kinds
def test_cancelling_leaves_nothing_behind(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(hold=True)))
    begin = time.monotonic()
    engine = engine_for(server.url, kind, finish_s=0.1)
    assert ask(engine, doubles(50), cancel=Cancel(lambda: bool(server.requests))) == []
    assert time.monotonic() - begin < 10
    server.release()
    wait_for(lambda: server.in_flight == 0)


class FullBook(CallBook):
    """A book on a disk that is full after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def reserve(self, nano: int) -> int | None:
        self.left -= 1
        if self.left < 0:
            raise LocalDistillError("the book of calls cannot be written: no space", "free some disk and resume")
        return super().reserve(nano)


@kinds
@pytest.mark.parametrize("calls", [0, 1, 30])
def test_a_book_that_cannot_be_written_ends_the_work_at_once(server: FaultServer, kind: str, calls: int) -> None:
    engine = engine_for(server.url, kind, finish_s=0.1, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.book = FullBook(calls)
    begin = time.monotonic()
    with pytest.raises(LocalDistillError, match="no space"):
        ask(engine, doubles(100), cancel=Cancel(lambda: time.monotonic() - begin > 6))
    assert len(server.requests) <= calls
