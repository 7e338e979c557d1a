"""Being asked to wait, in all the ways in which servers ask: obeyed when it makes sense, never a try, never a hang."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from localdistill.core.events import Cancel, Event, Noted
from localdistill.engines.wire.anthropic_messages import Messages
from localdistill.engines.wire.chat_completions import ChatCompletions
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.rate_limiter import RateLimiter
from tests.faults import FaultServer, Limit, Script, Step, fault_server
from tests.faults.asking import KINDS, ask, doubles, engine_for, first, is_right, one

kinds = pytest.mark.parametrize("kind", KINDS)


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@kinds
@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize(("headers", "least_s"), [
    ({"Retry-After": "0.1"}, 0.1), ({"retry-after-ms": "100", "Retry-After": "30"}, 0.1), ({"Retry-After": "0"}, 0),
    ({"Retry-After": "-5"}, 0), ({"Retry-After": "soon"}, 0), ({"Retry-After": ""}, 0), ({}, 0),
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0), ({"Retry-After": "nan"}, 0),
    ({"Retry-After": "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"}, 0),
], ids=str)
def test_any_retry_after_is_obeyed_or_overlooked(
        server: FaultServer, kind: str, headers: dict[str, str], least_s: float, status: int) -> None:
    server.play(first(Step(status=status, headers=headers), times=2))
    assert is_right(one(server, kind, retries=2))
    waits = [b.at_s - a.at_s for a, b in zip(server.requests, server.requests[1:])]
    assert len(waits) == 2 and all(least_s <= wait < least_s + 10 for wait in waits)


def test_a_date_to_wait_for_is_obeyed(server: FaultServer) -> None:
    begin, now = time.monotonic(), time.time()
    server.play(first(Step(status=429, headers={"Retry-After": date_in(2)})))
    assert is_right(one(server))
    assert server.requests[1].at_s - begin >= int(now + 2) - now - 0.05


@kinds
def test_waiting_is_no_try_and_holds_the_whole_server(server: FaultServer, kind: str) -> None:
    server.play(first(Step(status=429, headers={"Retry-After": "0.4"}), times=3))
    replies = ask(engine_for(server.url, kind, retries=0, concurrency=3), doubles(20))
    assert len(replies) == 20 and all(is_right(r) for r in replies)
    slowed = [r for r in server.requests if r.status == 429]
    assert len(slowed) == 3
    deadline = min(r.at_s for r in slowed) + 0.4
    early = [r for r in server.requests if r.status == 200 and r.at_s < deadline]
    assert len(early) <= 2 and sum(server.asked.values()) == 23


@kinds
def test_a_long_wait_is_said_and_can_be_cancelled(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(status=429, headers={"Retry-After": "3600"})))
    said: list[Event] = []
    begin = time.monotonic()
    replies = ask(engine_for(server.url, kind, concurrency=2, finish_s=0.1), doubles(9), said.append,
                  Cancel(lambda: any("3600" in e.text for e in said if isinstance(e, Noted))))
    assert replies == [] and len(server.requests) <= 2 and time.monotonic() - begin < 10


@pytest.mark.parametrize(("kind", "headers"), [
    ("openai_compatible", {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0",
                           "x-ratelimit-reset-requests": "200ms"}),
    ("openai_compatible", {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "0",
                           "x-ratelimit-reset-tokens": "0.2s"}),
    ("openai_compatible", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0m0.2s"}),
])
def test_what_limit_headers_leave_is_not_exceeded(server: FaultServer, kind: str, headers: dict[str, str]) -> None:
    server.play(Script(default=Step(headers=headers)))
    replies = ask(engine_for(server.url, kind, concurrency=1), doubles(3))
    assert all(is_right(r) for r in replies)
    waits = [b.at_s - a.at_s for a, b in zip(server.requests, server.requests[1:])]
    assert len(waits) == 2 and all(0.17 <= wait < 10 for wait in waits)


def test_reset_times_of_anthropic_are_obeyed(server: FaultServer) -> None:
    begin = time.monotonic()
    reset = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    headers = {"anthropic-ratelimit-requests-limit": "5", "anthropic-ratelimit-requests-remaining": "0",
               "anthropic-ratelimit-requests-reset": reset}
    server.play(first(Step(headers=headers)))
    replies = ask(engine_for(server.url, "anthropic", concurrency=1), doubles(3))
    assert all(is_right(r) for r in replies) and server.requests[1].at_s - begin > 0.9


def waited_s(limiter: RateLimiter, begin: float, most_s: float) -> float:
    """Seconds on a clock of its own until the limiter lets one request through; fails when they exceed `most_s`."""
    total = 0.0
    while (wait := limiter.wait_s(100.0, begin + total)) > 0:
        total += wait
        assert total <= most_s
    return total


DIALECTS: dict[str, Dialect] = {"openai_compatible": ChatCompletions(), "anthropic": Messages()}
NONSENSE = [
    ("openai_compatible", {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}),
    ("openai_compatible", {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "5",
                           "x-ratelimit-reset-tokens": "1s"}),
    ("openai_compatible", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 400 + "s"}),
    ("openai_compatible", {"x-ratelimit-remaining-requests": "-3", "x-ratelimit-reset-requests": "soon"}),
    ("openai_compatible", {"x-ratelimit-limit-tokens": "none", "x-ratelimit-remaining-tokens": "nan",
                           "x-ratelimit-reset-tokens": "-1s"}),
    ("openai_compatible", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "87600h0m0s"}),
    ("anthropic", {"anthropic-ratelimit-requests-limit": "0", "anthropic-ratelimit-requests-remaining": "0",
                   "anthropic-ratelimit-requests-reset": "yesterday"}),
    ("anthropic", {"anthropic-ratelimit-requests-remaining": "0",
                   "anthropic-ratelimit-requests-reset": "2026-13-45T99:00:00Z"}),
    ("anthropic", {"anthropic-ratelimit-tokens-remaining": "0",
                   "anthropic-ratelimit-tokens-reset": "9999-12-31T23:59:59Z"}),
]


@pytest.mark.parametrize(("kind", "headers"), NONSENSE)
def test_limit_headers_that_make_no_sense_do_not_hold_for_ever(kind: str, headers: dict[str, str]) -> None:
    limiter = RateLimiter(8, True, 0.5)
    limiter.heard(DIALECTS[kind].limits(headers), 1000.0)
    assert waited_s(limiter, 1000.0, most_s=3600.0) <= 3600.0


@pytest.mark.parametrize(("kind", "headers", "exact_s"), [
    ("openai_compatible", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
    ("openai_compatible", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
    ("openai_compatible", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12m34s"}, 754.0),
    # A header states a window and asks for nothing: it is believed for 15 minutes.
    ("openai_compatible", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3s"}, 900.0),
    ("openai_compatible", {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "7.66s"}, 7.66),
    ("openai_compatible", {"x-ratelimit-remaining-tokens": "5000", "x-ratelimit-reset-tokens": "59s"}, 0.0),
])
def test_reset_times_are_waited_for_to_the_point(kind: str, headers: dict[str, str], exact_s: float) -> None:
    limiter = RateLimiter(8, True, 0.5)
    limiter.heard(DIALECTS[kind].limits(headers), 1000.0)
    assert waited_s(limiter, 1000.0, most_s=4000.0) == pytest.approx(exact_s, abs=1e-6)


@pytest.mark.parametrize("asked_s", [0.0, 0.25, 30.0, 3600.0, 86400.0])
def test_however_long_a_server_asks_to_wait_it_is_obeyed(asked_s: float) -> None:
    limiter = RateLimiter(8, True, 0.5)
    limiter.slowed(asked_s, 1000.0)
    assert asked_s <= waited_s(limiter, 1000.0, most_s=asked_s * 1.05) <= asked_s * 1.05


@pytest.mark.parametrize(("kind", "whose"), [
    ("openai_compatible", "openai"), ("openai_compatible", "none"), ("anthropic", "none")])
def test_a_limited_server_answers_all_and_is_hardly_overasked(kind: str, whose: Any) -> None:
    with fault_server(Script(limit=Limit(20, 0.2, whose))) as server:
        replies = ask(engine_for(server.url, kind, retries=0), doubles(80))
        assert len(replies) == 80 and all(is_right(r) for r in replies)
        assert set(server.answered.values()) == {1}
        assert sum(r.status == 429 for r in server.requests) <= 80


@kinds
def test_a_server_that_only_queues_is_not_buried(kind: str) -> None:
    with fault_server(Script(capacity=3, service_s=0.004)) as server:
        replies = ask(engine_for(server.url, kind), doubles(200))
        assert all(is_right(r) for r in replies) and set(server.answered.values()) == {1} and len(replies) == 200
        assert server.most_in_flight <= 64
