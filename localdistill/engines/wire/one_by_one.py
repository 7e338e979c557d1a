"""One question at a time to one server: for probing, where a single reply is looked at closely. Every call is in the
ledger; nothing is judged here."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import BudgetReached, Cancelled, EngineError, EngineUnavailable
from localdistill.core.events import Cancel
from localdistill.core.records import Request
from localdistill.engines.wire.attempt import attempt
from localdistill.engines.wire.charges import UNKNOWN, Charge, charge_after, charge_of
from localdistill.engines.wire.collected import Malformed, reply_of
from localdistill.engines.wire.dispatcher import Job
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.http import Refused, Slowed, Target, Transient, open_session
from localdistill.engines.wire.probe_report import Exchange
from localdistill.providers import Price, worst_nano_usd
from localdistill.spending.ledger import NANO, SpendLedger

if TYPE_CHECKING:
    import aiohttp

CUT_TOKENS = 256
"""A reply that is to be cut is cut after so many pieces, and counted with as many tokens."""
SETTINGS: dict[str, Any] = {"seed": 7, "temperature": 0.5}
"""Keys of a body that a server may refuse; they are only sent where they are asked about."""

_LONGEST_REPLY_S = 300.0
_LONGEST_PAUSE_S = 60.0
_TRIES = 3
_FIRST_PAUSE_S = 0.25
_LISTEN_S = 0.1


def single_price(engine: WireEngine) -> Price | None:
    """What a question costs that goes through no batch, whatever the engine is set to."""
    return engine.options.model_copy(update={"batch": False}).price()


class Cut(Exception):
    """Enough came, and no more was wanted."""


class _Clock:
    """Hears the pieces of one reply."""

    def __init__(self, cuts: bool) -> None:
        self._left, self._sent_at = CUT_TOKENS if cuts else math.inf, time.monotonic()
        self.first_s: float | None = None
        """Seconds to the first piece."""

    def hear(self, is_reasoning: bool, text: str) -> None:
        """Called with every piece."""
        self._left -= 1
        if self._left < 0:
            raise Cut
        self.first_s = self.elapsed_s() if self.first_s is None else self.first_s

    def elapsed_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._sent_at


class OneByOne:
    """Questions to the first server of an engine, one after the other. Used inside `async with`."""

    def __init__(self, engine: WireEngine, ledger: SpendLedger, cancel: Cancel) -> None:
        self._engine, self._ledger, self._cancel = engine, ledger, cancel
        self._session: aiohttp.ClientSession | None = None
        self.target: Target = engine.targets()[0]
        self.price = single_price(engine)
        self.spent_nano = 0
        """What was counted in the ledger."""
        self.exchanges: list[Exchange] = []
        """Everything that was answered, in order."""

    async def __aenter__(self) -> OneByOne:
        options = self._engine.options
        self._session = open_session(min(options.timeout_s, _LONGEST_REPLY_S), options.idle_s)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: Request, streams: bool, settings: Mapping[str, Any] | None = None,
                  cuts: bool = False) -> Exchange:
        """One question, tried again where that may help. Seed and temperature go only where `settings` has them: each
        may be what a server refuses. `cuts`: raise Cut where more than CUT_TOKENS come, and reserve for no more. Raises
        Refused, EngineError, BudgetReached, Cancelled."""
        job = self._engine.job(request, streams)
        extra = self._engine.options.extra
        body = {key: value for key, value in job.body.items() if key not in SETTINGS or key in extra}
        body.update(settings or {})
        tries, last = 1 if cuts else _TRIES, ""
        for number in range(1, tries + 1):
            ticket = self._reserve(job.prompt_bytes, CUT_TOKENS if cuts else job.max_tokens)
            pause_s: float | None = None
            charge = UNKNOWN
            try:
                exchange, charge = await self._once(job, body, cuts)
                return exchange
            except (Refused, EngineError, Slowed, Transient) as problem:
                charge = charge_after(self.price, problem, job.prompt_tokens)
                if isinstance(problem, Refused | EngineError):
                    raise
                asks = isinstance(problem, Slowed)
                pause_s = problem.wait_s if isinstance(problem, Slowed) else None
                last = f"{self.target.url} {'asks to wait' if asks else 'does not answer'}: {problem}"
            except Malformed as problem:
                last = f"{self.target.url} answers something else: {problem}"
            finally:
                if ticket is not None:
                    self.spent_nano += charge.settle(self._ledger, ticket)
            pause_s = _FIRST_PAUSE_S * 2**number if pause_s is None else pause_s
            if number == tries or pause_s > _LONGEST_PAUSE_S:
                break
            await self._cancellable(asyncio.sleep(pause_s))
        raise EngineUnavailable(last, "check the address, or probe again later")

    async def _once(self, job: Job, body: dict[str, Any], cuts: bool) -> tuple[Exchange, Charge]:
        """One attempt; what came is kept, unless it was to be cut."""
        assert self._session is not None
        clock = _Clock(cuts)
        answer = await self._cancellable(attempt(self._session, self.target, body, clock.hear))
        known = self._engine.options.known()
        reply = reply_of(answer.collected, "probe", answer.raw, job.max_tokens, clock.elapsed_s(),
                         prompt_tokens=job.prompt_tokens, is_whole=answer.is_whole,
                         may_lack_finish=known.may_lack_finish_reason if known else False)
        charge = charge_of(self.price, reply, job.prompt_tokens, answer.is_whole)
        exchange = Exchange(answer.collected, reply, json.loads(answer.raw), answer.limits, clock.first_s, charge.nano)
        if not cuts:
            self.exchanges.append(exchange)
        return exchange, charge

    async def _cancellable(self, work: Any) -> Any:
        """The result of `work`, given up when somebody asks to stop."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LISTEN_S))[0]:
                if self._cancel.is_set():
                    raise Cancelled("cancelled", "what was spent is counted")
            return task.result()
        finally:
            task.cancel()

    def _reserve(self, prompt_bytes: int, max_tokens: int) -> int | None:
        if self.price is None:
            return None
        worst = worst_nano_usd(self.price, prompt_bytes, max_tokens)
        ticket = self._ledger.reserve(worst, self._engine.rules().of)
        if ticket is None:
            raise BudgetReached(f"the next question could cost ${worst / NANO:.4f}, more than the cap leaves",
                                "raise --max-usd")
        return ticket
