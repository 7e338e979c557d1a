"""The rate limiter, over simulated time: no sleeping, no network."""

from __future__ import annotations

import heapq
import random

import pytest

from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.engines.wire.rate_limiter import Allowance, Pace, RateLimiter


class Server:
    """Works on `capacity` requests at once, in the order they came; the others wait, and nobody is told. Above
    `too_many` in flight it answers 429 at once."""

    def __init__(self, capacity: int, service_s: float = 0.2, too_many: int = 10**9) -> None:
        self.service_s, self.too_many = service_s, too_many
        self._free_at = [0.0] * capacity
        self._draw = random.Random(1)

    def end_of(self, sent_at: float) -> float:
        begin = max(sent_at, heapq.heappop(self._free_at))
        end = begin + self.service_s * self._draw.uniform(0.5, 1.5)
        heapq.heappush(self._free_at, end)
        return end


def simulate(pace: Pace, server: Server, count: int = 6000) -> float:
    """Replies per second over the last half of `count` replies."""
    now, done, half_at, number = 0.0, 0, 0.0, 0
    flying: list[tuple[float, int, float, bool]] = []
    while done < count:
        while len(flying) < int(pace.width):
            number += 1
            refused = len(flying) >= server.too_many
            heapq.heappush(flying, (now + 0.001 if refused else server.end_of(now), number, now, refused))
        now, _, sent_at, refused = heapq.heappop(flying)
        if refused:
            pace.slowed(now, server.service_s)
            continue
        pace.succeeded(sent_at, now, 1.0, saturated=True)
        done += 1
        if done == count // 2:
            half_at = now
    return (count - count // 2) / (now - half_at)


@pytest.mark.parametrize("capacity", [4, 40, 200])
def test_a_server_that_only_queues_is_used_fully_and_not_flooded(capacity: int) -> None:
    best = max(simulate(Pace(width, adaptive=False), Server(capacity)) for width in (4, 8, 16, 40, 64, 128, 256))
    pace = Pace(256)
    found = simulate(pace, Server(capacity))
    assert found >= 0.9 * best
    assert pace.width <= max(24, 2.6 * capacity), "it does not pile up requests that only wait"


def test_a_server_without_limits_gets_all_that_is_allowed() -> None:
    pace = Pace(256)
    simulate(pace, Server(1000))
    assert pace.width >= 200


def test_a_server_that_says_429_is_asked_just_below() -> None:
    pace = Pace(256)
    rate = simulate(pace, Server(1000, too_many=50))
    assert rate >= 0.75 * 50 / 0.2
    assert pace.width <= 64


def test_a_given_number_is_kept() -> None:
    pace = Pace(7, adaptive=False)
    simulate(pace, Server(1000), count=500)
    assert pace.width == 7


def test_an_allowance_waits_for_its_window() -> None:
    allowance = Allowance(limit=10, window_s=60)
    assert allowance.wait_s(1, now=100.0) == 0
    allowance.take(10)
    assert allowance.wait_s(1, now=130.0) == 30.0
    assert allowance.wait_s(1, now=160.0) == 0, "a new minute"
    assert allowance.wait_s(1000, now=160.0) == 0, "more than a whole window waits for a full one, not for ever"
    allowance.take(1000)
    assert allowance.wait_s(1, now=161.0) > 0


def test_headers_count_what_is_in_flight_as_used() -> None:
    limiter = RateLimiter(64, False, 0.5)
    for _ in range(5):
        limiter.sent(100.0)
    limiter.heard({"requests": RateLimitHeaders(10, 6, 20.0), "tokens": RateLimitHeaders(None, 250, 20.0)}, now=1000.0)
    assert limiter.wait_s(100.0, now=1000.0) == 20.0, "250 tokens left, 500 are in flight"
    for _ in range(5):
        limiter.left(100.0)
    limiter.heard({"requests": RateLimitHeaders(10, 6, 15.0), "tokens": RateLimitHeaders(None, 250, 15.0)}, now=1005.0)
    assert limiter.wait_s(100.0, now=1005.0) == 0
    assert limiter.wait_s(300.0, now=1005.0) == 15.0


@pytest.mark.parametrize("asked", [0.0, 3.0, 3600.0, 86400.0])
def test_retry_after_is_obeyed_however_long(asked: float) -> None:
    limiter = RateLimiter(8, False, 0.5)
    assert limiter.slowed(asked, now=50.0) == asked
    assert limiter.wait_s(1.0, now=50.0) == asked
    assert limiter.wait_s(1.0, now=50.0 + asked) == 0
    assert limiter.trouble_since is None, "being let alone as asked is no trouble"


def test_a_failing_server_is_asked_one_thing_at_a_time_until_it_answers() -> None:
    limiter = RateLimiter(8, False, 0.5)
    for second in range(5):
        assert limiter.wait_s(1.0, now=float(second)) == 0
        limiter.failed(now=float(second))
    assert 0 < limiter.wait_s(1.0, now=4.0) <= 0.5
    later = 4.0 + limiter.wait_s(1.0, now=4.0)
    limiter.sent(1.0)
    assert limiter.wait_s(1.0, now=later) == float("inf"), "one at a time"
    limiter.failed(now=later)
    limiter.left(1.0)
    assert limiter.wait_s(1.0, now=later) > 0.4, "and less often"
    limiter.succeeded(later, later + 1, 1.0, True)
    assert limiter.wait_s(1.0, now=later + 30) == 0 and limiter.trouble_since is None


def test_slow_downs_do_not_shrink_the_pace_twice_in_one_round_trip() -> None:
    pace = Pace(100, adaptive=False)
    for _ in range(30):
        pace.slowed(now=10.0, latency_s=0.5)
    assert pace.width == 70.0
    pace.slowed(now=10.6, latency_s=0.5)
    assert pace.width == pytest.approx(49.0)
