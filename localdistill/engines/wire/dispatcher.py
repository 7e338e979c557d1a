"""Load balancing with retries: spreads requests over servers, as many at once as each can take, and tries again what
may pass by itself. Runs in a thread of its own; jobs go in and outcomes come out through queues. A server takes its
next job whenever it has room, so the faster ones do more of the work and what a failing one had goes to the others."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import BudgetReached, EngineError, EngineUnavailable, LocalDistillError
from localdistill.core.events import Event, Noted, Warned
from localdistill.core.records import Reply
from localdistill.engines.wire.attempt import OnPiece, WireResponse, attempt
from localdistill.engines.wire.charges import UNKNOWN, Charge, charge_after, charge_of
from localdistill.engines.wire.collected import UNREADABLE, Malformed, reply_of
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.http import Refused, Slowed, Target, Transient, open_session
from localdistill.engines.wire.rate_limiter import RateLimiter
from localdistill.engines.wire.selector import FewAtATime
from localdistill.engines.wire.waiting import backoff_s
from localdistill.providers import Price, worst_nano_usd
from localdistill.spending.ledger import NANO, SpendLedger

if TYPE_CHECKING:
    import aiohttp

_FIRST_PATIENCE_S = 20.0
_CHECK_EVERY_S = 0.25
_LONG_PAUSE_S = 5.0
_SAY_EVERY_S = 60.0
_MANY_SLOWDOWNS = 100


@dataclass(frozen=True)
class Rules:
    """How patiently and at what price requests are asked."""

    timeout_s: float
    idle_s: float
    patience_s: float
    retries: int
    backoff_s: float
    price: Price | None
    may_lack_finish: bool
    of: str = ""
    """Whose calls these are in the ledger."""


@dataclass
class Server:
    """One address with its rate limiter."""

    target: Target
    limiter: RateLimiter
    failure: str = ""
    """What it said or did when it failed last."""


@dataclass
class Job:
    """One request on its way."""

    request_id: str
    body: dict[str, Any]
    max_tokens: int
    prompt_bytes: int
    """Bytes of all that is sent and what the template may add: no tokenizer makes more tokens of them than that."""
    prompt_tokens: int = 0
    """About as many tokens as the messages have, by our own count."""
    dialect: Dialect | None = None
    """The form of API that this one is asked in; None: the engine's."""
    on_piece: OnPiece | None = None
    retries: int | None = None
    """Further tries of this one; None: as the rules say."""
    tries: int = 0
    failed_at: Server | None = field(default=None, repr=False)
    odd_ends: int = 0
    """Replies that ended in order, but without a finish reason."""
    spent_nano: int = 0
    last: Reply | None = field(default=None, repr=False)
    """What a failed try left, kept when no later one is better."""


Outcome = Reply | Event | LocalDistillError


class Dispatcher:
    """One engine's servers. `feed`, `stop` and `close` may be called from any thread."""

    def __init__(self, servers: Sequence[Server], rules: Rules, ledger: SpendLedger) -> None:
        self.servers, self.rules, self.ledger = list(servers), rules, ledger
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._pending: deque[Job] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._delayed = 0
        self._stopping = False
        self._fatal = False
        self._timer: asyncio.TimerHandle | None = None
        self._typical_tokens = 0.0
        self._said_wait_at = float("-inf")
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.SelectorEventLoop(FewAtATime())
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._thread.start()
        self._loop.call_soon_threadsafe(self._connected)  # while the first requests are still being fetched

    # ---- from other threads

    def feed(self, jobs: Iterable[Job]) -> None:
        """Take jobs in; every one comes out as a Reply, unless an error or `stop` ends the work first."""
        waiting = list(jobs)
        self._loop.call_soon_threadsafe(self._take_in, waiting)

    def appetite(self) -> int:
        """How many jobs the dispatcher can use: three times what its servers hold at once, so that whoever hands them
        in may be away for a while."""
        return 16 + sum(3 * int(server.limiter.pace.width) for server in self.servers if not server.limiter.dead)

    def stop(self, finish_s: float) -> int:
        """Drop what was not sent, let what is in flight end for `finish_s` at most; returns how many that are."""
        async def begin() -> int:
            self._stopping = True
            self._pending.clear()
            self._loop.call_later(finish_s, self._cut_off)
            return len(self._in_flight)

        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    def is_idle(self) -> bool:
        """Nothing is in flight any more."""
        return not self._in_flight

    def close(self) -> None:
        """Cancel everything and end the thread."""
        async def shut() -> None:
            self._stopping = True
            tasks = list(self._in_flight)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._session is not None:
                await self._session.close()

        asyncio.run_coroutine_threadsafe(shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- in the loop

    def _take_in(self, jobs: list[Job]) -> None:
        if not self._stopping:
            self._pending.extend(jobs)
            self._pump()

    def _cut_off(self) -> None:
        for task in self._in_flight:
            task.cancel()

    def _pump(self) -> None:
        """Go on. Callbacks of the loop have nobody who hears of their errors: those end the work."""
        try:
            self._send_what_may_be_sent()
        except LocalDistillError as problem:
            self._end(problem)
        except Exception as problem:
            self._end(EngineError(f"sending failed: {type(problem).__name__}: {problem}", "report this"))

    def _send_what_may_be_sent(self) -> None:
        """Send as much as servers and budget allow now, and come back when time alone allows more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = float("inf")
        while self._pending and not self._stopping:
            now = time.monotonic()
            tokens = self._expected_tokens(self._pending[0])
            wait, _, place = min(
                (server.limiter.wait_s(tokens, now), server.limiter.in_flight / server.limiter.pace.width, place)
                for place, server in self._places_for(self._pending[0]))
            if wait > 0:
                wake = wait
                self._say_wait(wait, now)
                break
            ticket = self._reserve(self._pending[0])
            if ticket is False:
                wake = _CHECK_EVERY_S
                break
            self._send(self._pending.popleft(), self.servers[place], tokens, None if ticket is True else ticket)
        self._give_up_in_time()
        if (self._pending or self._delayed) and not self._stopping:
            self._timer = self._loop.call_later(min(wake, _CHECK_EVERY_S * 4), self._pump)

    def _places_for(self, job: Job) -> list[tuple[int, Server]]:
        """The servers that may take `job`: where it failed last only when there is no sound one beside."""
        places = list(enumerate(self.servers))
        others = [(place, server) for place, server in places
                  if server is not job.failed_at and server.limiter.is_sound]
        return others or places

    def _reserve(self, job: Job) -> int | bool:
        """A ticket; True when nothing is known to cost anything; False when the budget has no room now."""
        if self.rules.price is None:
            return True
        told = worst_nano_usd(self.rules.price, job.prompt_bytes, job.max_tokens)
        ticket = self.ledger.reserve(told, self.rules.of)
        if ticket is not None:
            return ticket
        if not self.ledger.reserved_nano:
            cap, spent, worst = (self.ledger.cap_nano or 0) / NANO, self.ledger.spent_usd, self._worst(job)
            self._end(BudgetReached(
                f"the cap of ${cap:.4f} is reached: ${spent:.4f} are spent, and the next call could cost "
                f"${worst / NANO:.4f}",
                "raise max_usd and resume; what was answered is kept"))
        return False

    def _worst(self, job: Job) -> int:
        """The most that `job` may cost, as far as is known of its server."""
        price = self.rules.price
        return self.ledger.worst(worst_nano_usd(price, job.prompt_bytes, job.max_tokens), self.rules.of) if price else 0

    def _expected_tokens(self, job: Job) -> float:
        return job.prompt_bytes / 4 + (self._typical_tokens or job.max_tokens / 2)

    def _send(self, job: Job, server: Server, tokens: float, ticket: int | None) -> None:
        server.limiter.sent(tokens)
        task = self._loop.create_task(self._one(job, server, ticket))
        self._in_flight.add(task)

        def over(ended: asyncio.Task[None]) -> None:
            self._in_flight.remove(ended)
            server.limiter.left(tokens)
            if not ended.cancelled() and (problem := ended.exception()) is not None:
                self._end(problem if isinstance(problem, LocalDistillError) else EngineError(
                    f"{server.target.url}: {type(problem).__name__}: {problem}", "report this with the run's log"))
            self._pump()

        task.add_done_callback(over)

    async def _one(self, job: Job, server: Server, ticket: int | None) -> None:
        """One try of `job` at `server`, settled and judged."""
        charge, price = UNKNOWN, self.rules.price
        sent_at = time.monotonic()
        try:
            try:
                target = server.target if job.dialect is None else server.target.spoken_to(job.dialect)
                answer = await attempt(self._connected(), target, job.body, job.on_piece)
                charge = self._took(job, server, answer, sent_at)
            except UNREADABLE as problem:
                text = str(problem) if isinstance(problem, Malformed) else (
                    f"a reply that cannot be read: {type(problem).__name__}")
                raise Transient(text, "request") from None
        except Slowed as problem:
            charge = charge_after(price, problem, job.prompt_tokens)
            self._slowed(job, server, problem)
        except Refused as problem:
            charge = charge_after(price, problem, job.prompt_tokens)
            self._deliver(job, Reply(job.request_id, "error", raw=problem.raw, error=str(problem)), charge)
        except Transient as problem:
            charge = charge_after(price, problem, job.prompt_tokens)
            self._failed(job, server, problem, charge)
        except EngineError as problem:
            charge = charge_after(price, problem, job.prompt_tokens)
            self._lost(job, server, problem)
        finally:
            if ticket is not None:
                job.spent_nano += charge.settle(self.ledger, ticket)

    def _took(self, job: Job, server: Server, answer: WireResponse, sent_at: float) -> Charge:
        """Deliver a reply, or try again when it broke off. Returns what it is charged with."""
        now = time.monotonic()
        reply = reply_of(answer.collected, job.request_id, answer.raw, job.max_tokens, now - sent_at,
                         prompt_tokens=job.prompt_tokens, is_whole=answer.is_whole,
                         may_lack_finish=self.rules.may_lack_finish)
        server.limiter.heard(answer.limits, now)
        usage = reply.usage
        charge = charge_of(self.rules.price, reply, job.prompt_tokens, answer.is_whole)
        job.odd_ends += answer.is_whole and reply.status == "truncated"
        # A server that leaves the reason out once will do so again: asking a second time is enough.
        if reply.status == "truncated" and job.odd_ends < 2:
            job.last = reply
            self._failed(job, server, Transient("the stream ended without its finish signal", "request"), charge)
            return charge
        saturated = bool(self._pending)
        size = usage.completion_tokens + 1.0
        self._typical_tokens += (size - self._typical_tokens) / 20 if self._typical_tokens else size
        server.limiter.succeeded(sent_at, now, size, saturated)
        self._deliver(job, reply, charge)
        return charge

    def _deliver(self, job: Job, reply: Reply, charge: Charge) -> None:
        if self.rules.price is not None:
            cost = max(self._worst(job), charge.seen) if charge.nano is None else charge.nano
            reply = replace(reply, cost_usd=(job.spent_nano + cost) / NANO)
        self.outcomes.put(reply)

    def _slowed(self, job: Job, server: Server, problem: Slowed) -> None:
        """The server wants to be let alone: that is no try."""
        server.limiter.has_answered = True
        server.failure = str(problem)
        pause = server.limiter.slowed(problem.wait_s, time.monotonic())
        if problem.wait_s is not None and pause >= _LONG_PAUSE_S:
            self._say(server, f"asks to wait {pause:.0f} s: {problem}")
        elif server.limiter.slowdowns % _MANY_SLOWDOWNS == 0:
            self._say(server, f"says again and again that it is asked too much: {problem}")
        job.last = job.last or Reply(job.request_id, "error", raw=problem.raw, error=str(problem))
        if not self._stopping:
            self._pending.appendleft(job)

    def _failed(self, job: Job, server: Server, problem: Transient, charge: Charge) -> None:
        """Try again later, elsewhere if there is an elsewhere; give the job up after its tries."""
        server.limiter.has_answered |= problem.counts
        job.failed_at = server
        if problem.slows or problem.scope == "server":
            server.failure = str(problem)
        if problem.slows:
            server.limiter.slowed(None, time.monotonic())
        if problem.scope == "server":
            was_sound = server.limiter.is_sound
            server.limiter.failed(time.monotonic())
            if was_sound and not server.limiter.is_sound:
                self._say(server, f"fails, and is asked less often until it answers: {problem}")
        job.last = job.last if job.last and job.last.status == "truncated" else Reply(
            job.request_id, "error", raw=problem.raw, error=str(problem))
        job.tries += problem.counts or job.retries is not None
        retries = self.rules.retries if job.retries is None else job.retries
        if job.tries > retries or self._stopping:
            error = f"{job.last.error or problem} (after {job.tries} tries)"
            self._deliver(job, job.last if job.last.status == "truncated" else replace(job.last, error=error), charge)
            return
        self._delayed += 1
        self._loop.call_later(backoff_s(max(0, job.tries - 1), self.rules.backoff_s), self._again, job)

    def _again(self, job: Job) -> None:
        self._delayed -= 1
        if not self._stopping:
            self._pending.appendleft(job)
            self._pump()

    def _lost(self, job: Job, server: Server, problem: EngineError) -> None:
        """A server that refuses for good: the others go on without it."""
        server.limiter.dead = problem.message
        if not self._stopping:
            self._pending.appendleft(job)
        if all(other.limiter.dead for other in self.servers):
            self._end(problem)
        else:
            self.outcomes.put(Warned(f"{problem.message}; the other servers go on", problem.hint))

    def _give_up_in_time(self) -> None:
        """End the work when no server has answered for as long as the patience lasts."""
        alive = [server for server in self.servers if not server.limiter.dead]
        if not alive or self._fatal or not (self._pending or self._delayed):
            return
        patience = self.rules.patience_s
        if not any(server.limiter.has_answered for server in alive):
            patience = min(patience, _FIRST_PATIENCE_S)
        if all(server.limiter.trouble_s > patience for server in alive):
            # Whatever failed may be away for its next try, and what waits may never have been sent: servers remember.
            self._end(EngineUnavailable(f"{alive[0].target.url} does not answer: {alive[0].failure}",
                                        "start the server or check base_url; localdistill resume continues from here"))

    def _end(self, problem: LocalDistillError) -> None:
        """Stop sending; what is in flight still comes."""
        if not self._fatal:
            self._fatal = self._stopping = True
            self._pending.clear()
            self.outcomes.put(problem)

    def _say_wait(self, wait_s: float, now: float) -> None:
        """Say once a minute that limits, and not the work, take the time."""
        if _LONG_PAUSE_S < wait_s < float("inf") and now - self._said_wait_at > _SAY_EVERY_S:
            self._said_wait_at = now
            self.outcomes.put(Noted(f"waiting {wait_s:.0f} s, as the server's limits or its wish demand"))

    def _say(self, server: Server, text: str) -> None:
        self.outcomes.put(Noted(f"{server.target.url} {text}"))

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self.rules.timeout_s, self.rules.idle_s)
        return self._session
