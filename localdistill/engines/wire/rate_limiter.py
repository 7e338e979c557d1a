"""The rate limiter of one server: adaptive concurrency (probing upwards, after a 429 AIMD: additive increase,
multiplicative decrease), the rate limits that its headers state, and a circuit breaker. Pure state over a clock that is
passed in; sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.engines.wire.dialect import RateLimitHeaders
from localdistill.engines.wire.waiting import backoff_s

_FIRST_WIDTH = 16.0
_SHRINK = 0.7
_REGAINED = 0.4
"""Of the width lost to a 429, per round of replies: most are storms that pass, and one step per round is slow."""
_WORTH_DOUBLING, _WORTH_STEP = 1.15, 1.08
_STEP_UP, _STEP_DOWN = 1.25, 0.8
_KEEPS = 0.97
_REST_EPOCHS = 8
_BREAKS_AFTER = 5
_LONGEST_WINDOW_S = 900.0
"""Limit headers that name a later time are not believed; a `Retry-After` is."""


class Pace:
    """The number of requests in flight that a server can use.

    Doubles while that raises the work done per second (a server that only queues never says that it is full), then
    rests and tries a step up or down now and then. After a 429 it shrinks by 0.7, regains most of that within a few
    rounds of replies, and then grows by one per round (additive increase, multiplicative decrease).
    """

    def __init__(self, most: int, adaptive: bool = True) -> None:
        """most: never more than so many. adaptive False starts there and only makes room after a 429."""
        self.most = float(most)
        self.width = min(_FIRST_WIDTH, self.most) if adaptive else self.most
        self._mode = "doubling" if adaptive else "additive"
        self._base_width = self._base_rate = self._goal = 0.0
        self._rested = 0
        self._goes_up = True
        self._slowed_at = float("-inf")
        self._begin_epoch(0.0)

    def _begin_epoch(self, now: float) -> None:
        self._since, self._first_at, self._work, self._count = now, -1.0, 0.0, 0

    def succeeded(self, sent_at: float, now: float, work: float, saturated: bool) -> None:
        """A reply to a request of time `sent_at` came; `work` is its size (tokens). `saturated`: the pace, not a lack
        of requests, was what held more back. Only replies to requests of the present epoch count."""
        if not saturated:
            self._begin_epoch(now)
            return
        if sent_at < self._since:
            return
        if self._first_at < 0:
            # Until here the server worked on requests from before; counting that time would favour wider paces.
            self._first_at = now
            return
        self._work += work
        self._count += 1
        if self._count >= self.width:
            self._end_epoch(now)

    def slowed(self, now: float, latency_s: float) -> None:
        """The server said that it is asked too much; heard once per round trip."""
        if now - self._slowed_at >= latency_s:
            self._slowed_at = now
            # One that says so again before the old width was reached again has become narrower: aim lower than that.
            self._goal = self.width if self.width >= self._goal else self.width * (1 + _SHRINK) / 2
            self.width = max(1.0, self.width * _SHRINK)
            self._mode = "additive"
            self._begin_epoch(now)

    def _end_epoch(self, now: float) -> None:
        rate = self._work / max(now - self._first_at, 1e-6)
        if self._mode == "additive":
            self.width = min(self.most, self.width + max(1.0, (self._goal - self.width) * _REGAINED))
        elif self._mode == "doubling":
            if self._base_rate and rate < self._base_rate * _WORTH_DOUBLING:
                self.width, self._mode = self._base_width, "resting"
            elif self.width >= self.most:
                self._base_width, self._base_rate, self._mode = self.width, rate, "resting"
            else:
                self._base_width, self._base_rate = self.width, rate
                self.width = min(self.most, self.width * 2)
        elif self._mode == "resting":
            self._base_width, self._base_rate = self.width, rate
            self._rested += 1
            if self._rested >= _REST_EPOCHS:
                self._try_step()
        else:
            worth = _WORTH_STEP if self.width > self._base_width else _KEEPS
            if rate < self._base_rate * worth:
                self.width = self._base_width
            self._rested, self._mode = 0, "resting"
        self._begin_epoch(now)

    def _try_step(self) -> None:
        self._goes_up = not self._goes_up if 1 < self.width < self.most else self.width < self.most
        self.width = min(self.most, max(1.0, self.width * (_STEP_UP if self._goes_up else _STEP_DOWN)))
        self._mode = "trying"


@dataclass
class Allowance:
    """One limit per window of time, as the server's headers state it or as is known beforehand."""

    limit: float | None = None
    remaining: float | None = None
    reset_at: float = 0.0
    window_s: float = 60.0

    def refill(self, now: float) -> None:
        """A new window begins once the old one has passed."""
        if self.limit is not None and now >= self.reset_at:
            self.remaining, self.reset_at = self.limit, now + self.window_s

    def wait_s(self, need: float, now: float) -> float:
        """Seconds until `need` may be taken. More than the whole limit waits for a full window, not for ever."""
        self.refill(now)
        if self.remaining is None or self.remaining >= need or (self.limit and self.remaining >= self.limit):
            return 0.0
        return max(0.0, self.reset_at - now)

    def take(self, need: float) -> None:
        """Count something that is sent."""
        if self.remaining is not None:
            self.remaining -= need

    def hear(self, limits: RateLimitHeaders, still_unanswered: float, now: float) -> None:
        """What a reply's headers say; what is in flight may not be counted there yet."""
        self.limit = limits.limit or self.limit
        if limits.reset_s is not None:
            self.reset_at = now + min(limits.reset_s, _LONGEST_WINDOW_S)
        elif limits.remaining is not None and self.reset_at <= now:
            self.reset_at = now + self.window_s
        if limits.remaining is not None:
            self.remaining = limits.remaining - still_unanswered


class RateLimiter:
    """One server's pace, allowances and circuit breaker. Times are seconds of one monotonic clock."""

    def __init__(self, most: int, adaptive: bool, backoff_first_s: float,
                 per_minute: Mapping[str, float | None] | None = None) -> None:
        """per_minute: limits known beforehand, by the names `requests` and `tokens`."""
        self.pace = Pace(most, adaptive)
        self.allowances = {name: Allowance(limit) for name, limit in (per_minute or {}).items() if limit}
        self.in_flight = 0
        self.tokens_in_flight = 0.0
        self.has_answered = False
        """Something came back from it at least once, be it an error."""
        self.slowdowns = 0
        """How often the server said that it is asked too much."""
        self.failures = 0
        """Failures of the server since its last success."""
        self.trouble_since: float | None = None
        """When it failed first since its last success, not counting the time that it asked to be left alone."""
        self.trouble_s = 0.0
        """How long the trouble had lasted when it was last seen."""
        self.paused_until = 0.0
        self.dead = ""
        """Why this server is not asked any more."""
        self.latency_s = 0.5
        self._backoff_first_s = backoff_first_s
        self._slow_streak = 0

    @property
    def is_sound(self) -> bool:
        """It is asked as usual: neither given up nor failing."""
        return not self.dead and self.failures < _BREAKS_AFTER

    def wait_s(self, tokens: float, now: float) -> float:
        """Seconds until one more request of about `tokens` may be sent; infinite when only a reply can change that."""
        if self.dead or self.in_flight >= (1 if self.failures >= _BREAKS_AFTER else int(self.pace.width)):
            return float("inf")
        wait = max(0.0, self.paused_until - now)
        for name, allowance in self.allowances.items():
            wait = max(wait, allowance.wait_s(1.0 if name == "requests" else tokens, now))
        return wait

    def sent(self, tokens: float) -> None:
        """A request of about `tokens` goes out."""
        self.in_flight += 1
        self.tokens_in_flight += tokens
        for name, allowance in self.allowances.items():
            allowance.take(1.0 if name == "requests" else tokens)

    def left(self, tokens: float) -> None:
        """A request is no longer in flight, however it ended."""
        self.in_flight -= 1
        self.tokens_in_flight -= tokens

    def heard(self, limits: Mapping[str, RateLimitHeaders], now: float) -> None:
        """Take in what a reply's headers say."""
        for name, stated in limits.items():
            unanswered = self.in_flight if name == "requests" else self.tokens_in_flight
            self.allowances.setdefault(name, Allowance()).hear(stated, unanswered, now)

    def succeeded(self, sent_at: float, now: float, work: float, saturated: bool) -> None:
        """A good reply came."""
        self.has_answered = True
        self.failures = self._slow_streak = 0
        self.trouble_since, self.trouble_s = None, 0.0
        self.latency_s += 0.2 * (now - sent_at - self.latency_s)
        self.pace.succeeded(sent_at, now, work, saturated)

    def slowed(self, wait_s: float | None, now: float) -> float:
        """A 429. Obeys `wait_s` however long; without one waits as long as a failure would. Returns the pause."""
        self.slowdowns += 1
        self.pace.slowed(now, self.latency_s)
        if wait_s is None:
            self.troubled(now)
            if now >= self.paused_until:
                self._slow_streak += 1
            wait_s = backoff_s(self._slow_streak, self._backoff_first_s)
        elif self.trouble_since is not None:
            self.trouble_since += wait_s
        self.paused_until = max(self.paused_until, now + wait_s)
        return wait_s

    def failed(self, now: float) -> None:
        """The server failed. After several failures without a success it is asked one thing at a time, and less and
        less often, until it answers. What was in flight when it went away fails with it: that is one failure."""
        self.troubled(now)
        if now < self.paused_until:
            return
        self.failures += 1
        if self.failures >= _BREAKS_AFTER:
            self.paused_until = now + backoff_s(self.failures - _BREAKS_AFTER, self._backoff_first_s)

    def troubled(self, now: float) -> None:
        """Remember since when there is trouble, and that it still lasts."""
        self.trouble_since = now if self.trouble_since is None else self.trouble_since
        self.trouble_s = now - self.trouble_since
