"""Asks a server a few small questions to find out what kind of teacher it is. Sends through the same attempt as every
answer does, but one thing at a time, and looks at what other code has no use for. Every call is in the ledger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from localdistill.core.errors import BudgetReached, EngineError, UsageError
from localdistill.core.events import Cancel
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.wire import probe_report
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.http import Refused
from localdistill.engines.wire.one_by_one import CUT_TOKENS, SETTINGS, Cut, OneByOne, single_price
from localdistill.engines.wire.probe_report import ABSURD_LIMIT, Exchange, Probe, shown
from localdistill.providers import worst_nano_usd
from localdistill.spending.ledger import NANO, SpendLedger

THINK = "What is 47 * 83 + 29 * 61 - 17 * 38? Think it through, then end with the number alone on the last line."
THINK_ANSWER = "5024"
EXACT = "Answer with exactly one word and nothing else: ready"
COUNT = "Count from one to two hundred in words, one number per line, without a comment."
THINK_TOKENS, EXACT_TOKENS, COUNT_TOKENS = 1024, 256, 32
"""Limits on new tokens. A server that may not think less is asked with the least limit that it takes."""


def worst_cost_nano(engine: WireEngine) -> int | None:
    """The most that `probe` is expected to cost, in nano-dollars; None when the price is unknown."""
    price = single_price(engine)
    if price is None:
        return None
    least = _thinking_limit(engine)
    jobs = [(_request(THINK, least), least), (_request(EXACT, EXACT_TOKENS), EXACT_TOKENS),
            (_request(COUNT, COUNT_TOKENS), COUNT_TOKENS), (_request(EXACT, CUT_TOKENS), CUT_TOKENS)]
    return sum(worst_nano_usd(price, engine.job(request, False).prompt_bytes, limit) for request, limit in jobs)


def probe(engine: WireEngine, ledger: SpendLedger, cancel: Cancel, *, finds_limits: bool = True) -> Probe:
    """Find out what answers behind `engine`; of several servers the first is asked. finds_limits False: without the
    question whose own limit is absurd, so that nothing bounds its cost but the server and a cut.

    Four small questions, and some that a server refuses for nothing. BudgetReached when the ledger has no room for the
    first; a later one that does not fit is left out, and the notes say so. Raises EngineError when the key, address or
    model is refused, EngineUnavailable when nothing answers.
    """
    return asyncio.run(_Prober(engine, ledger, cancel, finds_limits).run())


def _request(text: str, max_tokens: int, thinks: bool | None = None) -> Request:
    return Request("probe", (Message("user", text),), Sampling(max_tokens=max_tokens), thinks=thinks)


def _thinking_limit(engine: WireEngine) -> int:
    """The least limit from THINK_TOKENS on with which the engine asks for thinking."""
    limit = THINK_TOKENS
    while True:
        try:
            engine.job(_request(THINK, limit, True), True)
            return limit
        except UsageError:
            if limit >= 64 * THINK_TOKENS:
                raise
            limit *= 2


@dataclass
class _Findings:
    """What the questions brought."""

    notes: list[str] = field(default_factory=list)
    on_refused: bool = False
    off_refused: bool = False
    thought: Exchange | None = None
    plain: Exchange | None = None
    counted: Exchange | None = None
    accepted: Mapping[str, Any] | None = None
    limit_words: str = ""
    output: int | None = None
    context: int | None = None


class _Prober:
    """One probe."""

    def __init__(self, engine: WireEngine, ledger: SpendLedger, cancel: Cancel, finds_limits: bool) -> None:
        self._engine, self._finds_limits = engine, finds_limits
        self._asker = OneByOne(engine, ledger, cancel)
        self._limit = _thinking_limit(engine)
        self._switch = self._switch_key()
        self._found = _Findings()

    def _switch_key(self) -> str:
        """The key of the body that tells the server to think or not; empty when there is none."""
        on, off = (self._engine.job(_request(THINK, self._limit, thinks), False).body for thinks in (True, False))
        return next((key for key in on if on[key] != off.get(key)), "")

    async def run(self) -> Probe:
        """All questions, one after the other. Once the first is answered there is something to report."""
        async with self._asker:
            await self._ask_to_think()
            last = (self._ask_absurdly,) if self._finds_limits else ()
            for question in (self._ask_exactly, self._ask_to_count, *last):
                try:
                    await question()
                except BudgetReached:
                    self._note("the money cap left no room for every question")
                    break
                except EngineError as problem:
                    self._note(f"a later question failed: {problem.message}")
                    break
        return self._report()

    # ---- the questions

    async def _ask_to_think(self) -> None:
        found, options = self._found, (True, None) if self._switch else (None,)
        for thinks in options:
            try:
                found.thought = await self._asker.ask(_request(THINK, self._limit, thinks), True)
                return
            except Refused as problem:
                if thinks is None:
                    raise EngineError(f"{self._asker.target.url} refuses a plain question: {problem}",
                                      "check model and the engine's `extra`") from None
                found.on_refused = True
                self._note(f"thinking switched on: {problem}")

    async def _ask_exactly(self) -> None:
        """Without thinking where that can be said, and without streaming."""
        for thinks in (False, None) if self._switch else (None,):
            try:
                self._found.plain = await self._asker.ask(_request(EXACT, EXACT_TOKENS, thinks), False)
                return
            except Refused as problem:
                self._found.off_refused |= thinks is False
                self._note(f"{'without streaming' if thinks is None else 'thinking switched off'}: {problem}")

    async def _ask_to_count(self) -> None:
        """Into a small limit, with a seed and a temperature as long as the server takes them: refusals cost nothing."""
        found, request = self._found, _request(COUNT, COUNT_TOKENS, self._off())
        for names in (("seed", "temperature"), ("temperature",), ("seed",), ()):
            settings = {name: SETTINGS[name] for name in names}
            try:
                found.counted, found.accepted = await self._asker.ask(request, True, settings), settings
                return
            except Refused as problem:
                if not names:
                    self._note(f"with a small limit on new tokens: {problem}")

    async def _ask_absurdly(self) -> None:
        """With a limit that the server should refuse. Whoever takes it may answer shortly, and is cut off then."""
        found = self._found
        try:
            await self._asker.ask(_request(EXACT, ABSURD_LIMIT, self._off()), True, cuts=True)
        except Cut:
            pass
        except (Refused, EngineError) as problem:
            words = str(problem)
            found.output, found.context = probe_report.limits_in(words)
            if isinstance(problem, Refused) or found.output or found.context:
                found.limit_words = shown(words)
            else:
                self._note(f"with an absurd limit on new tokens: {words}")
            return
        self._note(f"a limit of {ABSURD_LIMIT:,} new tokens is taken without a word: the true one is not known")

    def _off(self) -> bool | None:
        return False if self._switch and not self._found.off_refused else None

    # ---- the report

    def _note(self, text: str) -> None:
        self._found.notes.append(shown(text))

    def _report(self) -> Probe:
        found, thought, options, asker = self._found, self._found.thought, self._engine.options, self._asker
        assert thought is not None
        kind, evidence = probe_report.reasoning_of(thought)
        usage, reply, known = thought.reply.usage, thought.reply, options.known()
        self._note_what_a_run_would_meet()
        return Probe(
            identity=self._engine.identity(), host=options.host(), model=options.model,
            probed_at=datetime.now(UTC).isoformat(timespec="seconds"), provider=known.name if known else "",
            answered_as=shown(thought.body.get("model") or ""), reasoning=kind, evidence=evidence,
            carriers=probe_report.carriers(thought.collected),
            reasoning_tokens=None if usage.estimated else usage.reasoning_tokens or None,
            switch=self._switch, switch_verdict=self._verdict(), solved=solves(reply),
            max_output_tokens=found.output, context_tokens=found.context, limit_words=found.limit_words,
            finish_at_limit=shown(found.counted.collected.finish or "") if found.counted else "",
            finish_reasons=tuple(dict.fromkeys(shown(e.collected.finish) for e in asker.exchanges
                                               if e.collected.finish)),
            lacks_finish=any(e.collected.finish is None for e in asker.exchanges),
            usage_whole=found.plain.collected.usage is not None if found.plain else None,
            usage_streamed=thought.collected.usage is not None,
            accepts_seed=None if found.accepted is None else "seed" in found.accepted,
            accepts_temperature=None if found.accepted is None else "temperature" in found.accepted,
            rate_limits=probe_report.rate_limits(asker.exchanges), first_token_s=thought.first_piece_s,
            elapsed_s=reply.elapsed_s,
            tokens_per_s=None if usage.estimated else usage.completion_tokens / max(reply.elapsed_s, 1e-6),
            cost_usd=None if thought.cost_nano is None else thought.cost_nano / NANO,
            spent_usd=None if asker.price is None else asker.spent_nano / NANO, notes=tuple(found.notes),
        )

    def _verdict(self) -> probe_report.SwitchVerdict:
        found = self._found
        if not self._switch:
            return "none"
        if found.on_refused or found.off_refused:
            return "on_refused" if found.on_refused else "off_refused"
        if found.thought is None or not probe_report.thinks(found.thought):
            return "stays_off"
        return "stays_on" if found.plain is not None and probe_report.thinks(found.plain) else "works"

    def _note_what_a_run_would_meet(self) -> None:
        """What the engine, set as it is, would stumble over."""
        found = self._found
        if len(self._engine.options.places()) > 1:
            self._note("of several servers the first was asked")
        if found.accepted is not None:
            sent = self._engine.job(_request(COUNT, COUNT_TOKENS, self._off()), True).body
            for name in SETTINGS:
                if name in sent and name not in found.accepted:
                    hint = "" if self._engine.options.known() else ": name its provider, if it is known"
                    self._note(f"a run would send {name}, which this server refuses{hint}")
        if any(not e.reply.finish_reason and e.reply.status == "truncated" for e in self._asker.exchanges):
            self._note("replies that lack a finish reason count as cut off")


def solves(reply: Reply) -> bool | None:
    """Whether a reply to THINK has the right number; None when it is not complete."""
    if reply.status != "complete":
        return None
    answer = re.sub(r"(?<=\d)[,\s\u202f](?=\d{3}\b)", "", reply.answer)
    return re.search(rf"(?<!\d){THINK_ANSWER}(?!\d)", answer) is not None
