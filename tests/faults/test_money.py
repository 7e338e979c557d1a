"""Counts and money: a lie about usage costs nobody more than is counted, and a cap holds whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from localdistill.core.errors import BudgetReached, EngineError, EngineUnavailable, LocalDistillError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Reply
from localdistill.engines.wire.http import was_sent
from localdistill.engines.wire.one_by_one import OneByOne
from localdistill.spending.ledger import NANO, SpendLedger
from tests.faults import FaultServer, Rule, Script, Step, refused_url
from tests.faults.asking import KINDS, ask, doubles, engine_for, first, is_right, request_for
from tests.helpers import wait_for

kinds = pytest.mark.parametrize("kind", KINDS)


def counted(prompt: Any, new: Any) -> dict[str, Any]:
    """A usage object in the words of both forms."""
    return {"prompt_tokens": prompt, "completion_tokens": new, "input_tokens": prompt, "output_tokens": new}


PRICES: dict[str, Any] = {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}
LIES = [None, {}, -1, "many", [1], counted(-5, -9), counted("7 or so", "9?"), counted(None, None),
        counted(10**30, 10**30), counted(1.5, 1e300), counted(True, True), counted(0, 0)]


def test_counts_in_quotes_are_counts_of_chat_completions(server: FaultServer) -> None:
    server.play(Script(default=Step(usage=counted("700", "900"))))
    (reply,) = ask(engine_for(server.url), ["Double 7"])
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.estimated) == (700, 900, False)


@kinds
@pytest.mark.parametrize("usage", LIES, ids=str)
@pytest.mark.parametrize("stream", [True, False])
def test_lies_about_usage_are_estimated_and_charged_in_full(
        server: FaultServer, kind: str, usage: Any, stream: bool) -> None:
    server.play(Script(default=Step(usage=usage)))
    engine = engine_for(server.url, kind, stream=stream, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.ledger = ledger = SpendLedger()
    (reply,) = ask(engine, ["Double 7"])
    assert is_right(reply) and reply.usage.estimated
    assert reply.usage.completion_tokens > 0 and reply.usage.prompt_tokens >= 0
    assert reply.cost_usd is not None and 0 < reply.cost_usd == pytest.approx(ledger.spent_usd)
    assert ledger.spent_usd >= server.billed_usd(1.0, 2.0)


@kinds
def test_a_stream_that_ends_in_an_error_is_charged(server: FaultServer, kind: str) -> None:
    server.play(first(Step(error_after=6), times=2))
    engine = engine_for(server.url, kind, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.ledger = ledger = SpendLedger()
    (reply,) = ask(engine, ["Double 7"])
    assert is_right(reply) and len(server.requests) == 3
    assert ledger.spent_usd >= server.billed_usd(1.0, 2.0)
    assert reply.cost_usd == pytest.approx(ledger.spent_usd)


WORST_USD = (1.0 * len("Double 7") + 2.0 * 1000) / 1e6
"""The least that is reserved for one question."""
HTML: dict[str, Any] = {"body": "<html>gateway</html>", "content_type": "text/html"}
AWAY = '{"error": {"message": "the model went away", "type": "server_error"}}'


def paid_for(server: FaultServer, kind: str, step: Step, **options: Any) -> tuple[SpendLedger, list[Reply]]:
    """The ledger and the replies after one question whose first try gets `step`."""
    server.play(first(step))
    engine = engine_for(server.url, kind, **{"retries": 1, **PRICES, **options})
    engine.ledger = ledger = SpendLedger(cap_usd=1.0)
    with contextlib.suppress(EngineError):
        return ledger, ask(engine, ["Double 7"])
    return ledger, []


@kinds
@pytest.mark.parametrize("step", [
    *(Step(status=status) for status in (307, 400, 401, 402, 403, 404, 422, 429, 503, 529)),
    Step(status=429, headers={"Retry-After": "0"}, **HTML),
    Step(status=429, body="<h1>429 Too Many Requests</h1>", content_type="text/html"),
    Step(status=503, body="<h1>Overloaded</h1>", content_type="text/html"),
    Step(status=422, body='{"detail": [{"loc": ["body"], "msg": "a field is missing"}]}'),
], ids=lambda step: f"{step.status}{step.body or ''}"[:12])
def test_what_an_api_turns_down_before_it_begins_costs_nothing(server: FaultServer, kind: str, step: Step) -> None:
    ledger, replies = paid_for(server, kind, step)
    assert ledger.assumed_nano == ledger.reserved_nano == 0
    assert sum(reply.cost_usd or 0 for reply in replies) == pytest.approx(ledger.spent_usd)


@kinds
@pytest.mark.parametrize("step", [
    *(Step(status=status) for status in (408, 418, 500, 502, 504)),
    *(Step(status=status, **HTML) for status in (400, 404, 429, 503, 529)),
    *(Step(status=status, body=AWAY) for status in (429, 503, 529)),
    Step(status=503, headers={"Retry-After": "0"}, **HTML), Step(status=503, headers={"Retry-After": "0"}, body=AWAY),
    Step(status=429, cut=10, ending="abrupt"), Step(status=503, cut=10, ending="reset"),
    Step(status=429, body='{"choices": [{"message": {"content": "It is"}}], "error": {"message": "slower"}}'),
    Step(status=400, body='{"error": {"message": "no JSON came out", "failed_generation": "{\\"a"}}'),
    Step(status=400, body='{"error": {"message": "Output data may be inappropriate content"}}'),
    *(Step(body=json.dumps({"type": "error", "error": {"message": "no", "code": code}}))
      for code in (400, 429, 502, "odd")),
    Step(error_after=3), Step(cut=250), Step(cut=250, ending="abrupt"), Step(cut=250, ending="reset"),
    Step(cut=250, ending="stall"), Step(cut=0, ending="stall"), Step(body=""), Step(**HTML), Step(wire="HTTP/1.1 2"),
    Step(wire=""), Step(body="null"), Step(hold=True),
], ids=lambda step: f"{step.status}{step.ending}{step.body or step.wire or step.cut or ''}"[:40])
@pytest.mark.parametrize("stream", [True, False])
def test_what_may_have_been_written_keeps_its_reserve(
        server: FaultServer, kind: str, step: Step, stream: bool) -> None:
    ledger, replies = paid_for(server, kind, step, stream=stream, idle_s=0.3)
    assert ledger.assumed_nano / NANO >= WORST_USD
    if replies:
        assert replies[0].cost_usd == pytest.approx(ledger.spent_usd)


@kinds
def test_a_reply_that_failed_for_good_says_what_it_may_have_cost(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(status=502)))
    engine = engine_for(server.url, kind, retries=2, **PRICES)
    engine.ledger = ledger = SpendLedger()
    (reply,) = ask(engine, ["Double 7"])
    assert reply.status == "error" and len(server.requests) == 3
    assert reply.cost_usd == pytest.approx(ledger.spent_usd) and ledger.spent_usd >= 3 * WORST_USD


@pytest.fixture
def speaks_no_tls() -> Iterator[str]:
    """The https address of a server that answers a greeting with something else."""
    class Odd(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)
            self.request.sendall(b"hello?")

    with socketserver.TCPServer(("127.0.0.1", 0), Odd) as odd:
        thread = threading.Thread(target=odd.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{odd.server_address[1]}/v1"
        odd.shutdown()
        thread.join()


@kinds
@pytest.mark.parametrize("where", ["refused", "no such name", "no TLS"])
def test_a_connection_that_was_never_made_costs_nothing(speaks_no_tls: str, kind: str, where: str) -> None:
    url = {"refused": refused_url(), "no such name": "http://nobody.invalid/v1", "no TLS": speaks_no_tls}[where]
    engine = engine_for(url, kind, patience_s=0.0, **PRICES)
    engine.ledger = ledger = SpendLedger()
    with pytest.raises(EngineUnavailable):
        ask(engine, ["Double 7"])
    assert ledger.spent_nano == ledger.reserved_nano == 0 and was_sent(ConnectionResetError())
    assert not was_sent(aiohttp.ConnectionTimeoutError())


@kinds
def test_a_call_that_is_cancelled_under_way_keeps_its_reserve(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(hold=True)))
    engine = engine_for(server.url, kind, finish_s=0.0, **PRICES)
    engine.ledger = ledger = SpendLedger()
    assert ask(engine, ["Double 7"], cancel=Cancel(lambda: bool(server.requests))) == []
    assert ledger.assumed_nano / NANO >= WORST_USD


@kinds
@pytest.mark.parametrize(("step", "is_free"), [
    (Step(status=404), True), (Step(status=429), True), (Step(status=500), False), (Step(status=403, **HTML), False),
    (Step(body='{"error": {"message": "later", "code": 429}}'), False)],
    ids=lambda value: str(getattr(value, "status", value)))
def test_a_probe_counts_by_the_same_rule(server: FaultServer, kind: str, step: Step, is_free: bool) -> None:
    server.play(first(step))
    engine, ledger = engine_for(server.url, kind, **PRICES), SpendLedger()

    async def one() -> None:
        async with OneByOne(engine, ledger, Cancel()) as asker:
            with contextlib.suppress(EngineError):
                await asker.ask(request_for("Double 7"), False)

    asyncio.run(one())
    assert (ledger.assumed_nano == 0) == is_free


@kinds
def test_a_cap_holds_while_everything_goes_wrong(server: FaultServer, kind: str) -> None:
    server.play(Script(rules=tuple(Rule(step, question=f".*{n}", times=2, per_question=True) for n, step in enumerate((
        Step(cut=500), Step(error_after=5), Step(usage=None), Step(cut=300, ending="reset"), Step(finish="length"),
        Step(status=500), Step(usage={"completion_tokens": -1}))))))
    engine = engine_for(server.url, kind, concurrency=64, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.ledger = ledger = SpendLedger(cap_usd=0.16)
    got: list[Reply] = []
    with pytest.raises(BudgetReached, match="cap"):
        for reply in engine.answer((request_for(q) for q in doubles(2000)), silent, Cancel()):
            got.append(reply)
    engine.close()
    assert len(got) > 20 and len({r.request_id for r in got}) == len(got)
    assert server.billed_usd(1.0, 2.0) <= ledger.spent_usd <= 0.16


@kinds
def test_cancelling_leaves_nothing_behind(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(hold=True)))
    begin = time.monotonic()
    engine = engine_for(server.url, kind, finish_s=0.1)
    assert ask(engine, doubles(50), cancel=Cancel(lambda: bool(server.requests))) == []
    assert time.monotonic() - begin < 10
    server.release()
    wait_for(lambda: server.in_flight == 0)


class FullLedger(SpendLedger):
    """A ledger on a disk that is full after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def reserve(self, nano: int, of: str = "", calls: int = 1) -> int | None:
        self.left -= 1
        if self.left < 0:
            raise LocalDistillError("the ledger of calls cannot be written: no space", "free some disk and resume")
        return super().reserve(nano, of, calls)


@kinds
@pytest.mark.parametrize("calls", [0, 1, 30])
def test_a_ledger_that_cannot_be_written_ends_the_work_at_once(server: FaultServer, kind: str, calls: int) -> None:
    engine = engine_for(server.url, kind, finish_s=0.1, usd_per_million_input=1.0, usd_per_million_output=2.0)
    engine.ledger = FullLedger(calls)
    begin = time.monotonic()
    with pytest.raises(LocalDistillError, match="no space"):
        ask(engine, doubles(100), cancel=Cancel(lambda: time.monotonic() - begin > 6))
    assert len(server.requests) <= calls
