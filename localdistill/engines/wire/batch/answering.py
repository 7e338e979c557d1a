"""Answers requests through a provider's batch API: cheaper, and done within a day. What is handed in is remembered on
disk before and after, so that no restart pays twice; waiting may take as long as it takes, and can be ended at any
time without ending the batch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, ClassVar, Protocol

from localdistill.core.errors import EngineError, EngineUnavailable, UsageError
from localdistill.core.events import Cancel, Emit, Noted, Progressed, Warned
from localdistill.core.records import Reply, Request
from localdistill.engines.wire.batch.calls import Caller, NotFound, Stopped
from localdistill.engines.wire.batch.drafts import Draft, Queue, cap_reached, room_nano
from localdistill.engines.wire.batch.protocols import PROTOCOLS, View
from localdistill.engines.wire.batch.register import Batch, Register
from localdistill.engines.wire.batch.results import Results
from localdistill.engines.wire.batch.states import BatchFolder, BatchState, amount
from localdistill.engines.wire.charges import charge_after
from localdistill.engines.wire.dispatcher import Job, Rules
from localdistill.engines.wire.http import MAX_LINE_BYTES, Refused, Slowed, Target, Transient
from localdistill.engines.wire.options import WireOptions
from localdistill.engines.wire.waiting import backoff_s
from localdistill.providers import worst_nano_usd
from localdistill.safety.files import writing
from localdistill.spending.ledger import NANO, SpendLedger

_STEP_S = 0.1
_FIRST_PATIENCE_S = 20.0
_JOURNALLED_S = 0.2
"""A reply that was taken is on the consumer's disk by then."""
_GONE_AFTER = 5
"""A provider that says so often that it knows no such batch is believed."""

_DOWNLOADS = 3
"""Results that break off are fetched so often before they count as all there is."""


class BatchSource(Protocol):
    """What batches need of the engine whose requests they carry."""

    name: ClassVar[str]
    options: WireOptions
    ledger: SpendLedger
    folder: Path | None
    """Where batches under way are remembered; None forgets them with the process."""

    def targets(self) -> list[Target]:
        """The servers with their keys."""

    def rules(self) -> Rules:
        """How patiently and at what price requests are asked."""

    def job(self, request: Request, streams: bool) -> Job:
        """The body of `request`, and what it may cost at most. UsageError when it cannot be asked."""


def answer_in_batches(engine: BatchSource, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
    """Replies to `requests`, in any order; see `Engine.answer`.

    Requests that an earlier process handed in and whose batch is still remembered in `engine.folder` are waited for,
    not sent again. The worst that a batch may cost is reserved before it is handed in. After a cancel batches go on at
    the provider. Raises BudgetReached when not even one request has room under the cap, EngineError when the provider
    refuses a batch as a whole, EngineUnavailable when nothing can be handed in for `patience_s`.
    """
    answering = _Answering(engine, requests, emit, cancel)
    try:
        yield from answering.run()
    finally:
        answering.close()


def cancel_batches(engine: BatchSource, emit: Emit, cancel: Cancel | None = None) -> int:
    """Ask the provider to stop working on every batch that `engine.folder` remembers for its server; returns how many
    those are. What was done until then is billed and still comes with `localdistill resume`. EngineUnavailable when
    the server does not answer."""
    cancel, count = cancel or Cancel(), 0
    answering = _Answering(engine, (), emit, cancel)
    try:
        for state in answering.folder.all(answering.caller.base):
            if state.stage != "waiting":
                continue
            try:
                answering.protocol.call_off(answering.caller, state, cancel)
            except (NotFound, Refused):
                continue  # it ended by itself
            except (Transient, Slowed, Stopped) as problem:
                raise EngineUnavailable(f"batch {state.label} could not be cancelled: {problem}", "try again") from None
            emit(Noted(f"batch {state.label} of {amount(len(state.ids))} is being cancelled"))
            count += 1
    finally:
        answering.close()
    return count


class _Answering:
    """One call of `answer_in_batches`."""

    def __init__(self, engine: BatchSource, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> None:
        known, targets = engine.options.known(), engine.targets()
        if len(targets) > 1:
            raise UsageError("batches go to one server, not to a pool of endpoints", "give base_url, or batch = false")
        kind = known.batch.kind if known and known.batch.kind != "none" else ""
        self._kind = kind or ("anthropic" if engine.name == "anthropic" else "openai")
        self.protocol = PROTOCOLS[self._kind]
        self._engine, self._options, self._ledger, self._rules = engine, engine.options, engine.ledger, engine.rules()
        self._emit, self._cancel, self._target = emit, cancel, targets[0]
        self._queue = Queue(requests)
        self.folder = BatchFolder(engine.folder)
        self._register = Register(self.folder, engine.ledger, self._queue)
        self.caller = Caller(self._target, self._rules)
        self._most_requests = self.protocol.most_requests
        self._most_batches: int | None = None
        self._fill_at = 0.0
        self._has_answered = False

    def close(self) -> None:
        """End everything but the batches."""
        self._register.close()
        self.caller.close()
        self.folder.close()

    def run(self) -> Iterator[Reply]:
        """See `answer_in_batches`."""
        for batch in self._register.recall(self.caller.base):
            paid = "" if self._register.is_mine(batch.state) else " by another run, whose ledger its cost is in"
            self._note(f"batch {batch.state.label} was handed in before{paid}; its answers are waited for")
        for state in self._register.forgotten():
            self._warn(f"a batch of {amount(state.calls)} was handed in before, and {state.batch}.json, which "
                       "remembered it, is gone: its answers cannot be fetched",
                       "it counts as spent with all that it may cost, and its questions are asked again; what came of "
                       "it is still to be seen at the provider")
        while not self._cancel.is_set():
            yield from self._fill()
            if not self._register.batches and self._queue.is_empty:
                return
            for batch in list(self._register.batches):
                if batch.next_at <= time.monotonic() and not self._cancel.is_set():
                    yield from self._advance(batch)
            self._pause()
        left = [batch for batch in self._register.batches if batch.state.stage != "new"]
        if left and self.folder.is_lasting:
            self._note(f"{_named(left)} not cancelled at the provider; localdistill resume collects the answers")
        elif left:
            self._warn(f"{_named(left)} not cancelled at the provider, and nothing here remembers it")

    def _pause(self) -> None:
        """Until something is due, or somebody cancels."""
        due = min((batch.next_at for batch in self._register.batches), default=float("inf"))
        if not self._queue.is_empty:
            due = min(due, time.monotonic() + _STEP_S)
        elif not self._register.batches:
            return
        while (left := due - time.monotonic()) > 0 and not self._cancel.is_set():
            time.sleep(min(left, _STEP_S))

    # ---- requests go in

    def _fill(self) -> Iterator[Reply]:
        """Write down as many batches as provider and cap allow now."""
        while not (self._queue.is_empty or self._cancel.is_set() or time.monotonic() < self._fill_at):
            if self._most_batches is not None and len(self._register.batches) >= self._most_batches:
                return
            draft = Draft(self.folder, self.protocol, self._most_requests)
            try:
                yield from self._gather(draft)
                if not draft.requests:
                    return
                draft.seal()
                ticket = self._ledger.reserve(draft.total_nano, self._rules.of, len(draft.requests), draft.token)
                if ticket is None:
                    self._queue.put_back(draft.requests)  # somebody else took the room just now
                    draft.discard()
                    return
                self._register.add(draft, self._kind, self.caller.base, self._options.model, ticket)
            except BaseException:
                draft.discard()
                raise

    def _gather(self, draft: Draft) -> Iterator[Reply]:
        """Write requests into `draft` until it is full, the room under the cap is used up, or there are no more. Those
        that cannot be sent are answered at once."""
        price = self._rules.price
        room = room_nano(self._ledger) if price else None
        while not self._cancel.is_set() and (request := self._queue.next()) is not None:
            try:
                job = self._engine.job(request, False)
            except UsageError as problem:
                yield Reply(request.id, "error", error=problem.message)
                continue
            worst = worst_nano_usd(price, job.prompt_bytes, job.max_tokens) if price else 0
            item = self.protocol.item(draft.next_custom_id, job.body)
            total = self._ledger.worst(draft.total_nano + worst, self._rules.of, len(draft.requests) + 1)
            has_room = room is None or total <= room
            if has_room and draft.has_place(item):
                draft.add(request, item, worst)
            elif has_room and not draft.requests:
                yield Reply(request.id, "error", error="the request is larger than a whole batch may be")
            else:
                self._queue.put_back([request])
                if not (has_room or draft.requests or self._register.batches or self._ledger.reserved_nano):
                    raise cap_reached(self._ledger, worst)
                return

    # ---- one batch goes on

    def _advance(self, batch: Batch) -> Iterator[Reply]:
        """Hand it in, or look at it and take its results."""
        try:
            if batch.state.stage != "waiting":
                self._hand_in(batch)
            else:
                view = self.protocol.look(self.caller, batch.state, self._cancel)
                batch.next_at, batch.done = time.monotonic() + self._options.batch_poll_s, view.done
                self._show()
                if view.has_ended:
                    yield from self._finish(batch, view)
                batch.failures = batch.times_missing = 0
            self._has_answered = True
        except Stopped:
            return
        except Slowed as problem:
            self._later(batch, problem, problem.wait_s)
        except Transient as problem:
            self._later(batch, problem)
        except NotFound as problem:
            batch.times_missing += 1
            self._later(batch, problem)
            if batch.times_missing >= _GONE_AFTER:
                yield from self._lose(batch)
        except Refused as problem:
            raise EngineError(f"batch {batch.state.label}: {problem}",
                              "the batch stays remembered; localdistill resume tries again") from None

    def _later(self, batch: Batch, problem: Exception, wait_s: float | None = None) -> None:
        """Come back to a batch whose call failed. A batch that the provider has is waited for however long it takes."""
        now, stage = time.monotonic(), batch.state.stage
        batch.failures += 1
        pause = max(backoff_s(batch.failures - 1, self._rules.backoff_s), wait_s or 0.0)
        batch.next_at = now + max(pause, self._options.batch_poll_s if stage != "new" else 0.0)
        if batch.failures == 3:
            self._note(f"{self.caller.base} fails, and is asked again until it answers: {problem}")
        if stage == "waiting":
            return
        since = batch.trouble_since = now if batch.trouble_since is None else batch.trouble_since
        batch.trouble_since += wait_s or 0.0
        patience = self._rules.patience_s if self._has_answered else min(_FIRST_PATIENCE_S, self._rules.patience_s)
        if now - since > patience:
            raise EngineUnavailable(f"{self.caller.base} does not take the batch: {problem}",
                                    "check base_url; localdistill resume continues from here")

    def _hand_in(self, batch: Batch) -> None:
        """Make the provider have the batch, once."""
        if not self._register.take_over(batch, time.monotonic()):
            return
        if batch.state.stage == "sent" and not self._is_to_be_sent_again(batch):
            return
        state = batch.state
        try:
            state.batch_id = self.protocol.submit(self.caller, self.folder, state, self._cancel, self._options.finish_s)
        except (Slowed, Transient) as problem:
            # After any other failure the provider may have the batch all the same.
            if not (problem.billed or (isinstance(problem, Transient) and problem.counts)):
                state.stage = "new"  # it was not taken, or never sent
                self.folder.save(state)
            raise
        except (NotFound, Refused) as problem:
            self._register.forget(batch, self._cost_of_refusal(state, problem))
            hint = "a provider with a batch endpoint" if isinstance(problem, NotFound) else "what the message asks for"
            raise EngineError(f"the batch was refused: {problem}", f"take {hint}, or batch = false") from None
        except EngineError as problem:
            self._register.forget(batch, self._cost_of_refusal(state, problem))
            raise
        self._register.accepted(batch)
        batch.next_at = time.monotonic() + self._options.batch_poll_s
        worst = f", for ${sum(state.worst) / NANO:.4f} at most" if self._rules.price else ""
        self._note(f"batch {state.label} of {amount(len(state.ids))} is handed in{worst}")

    @staticmethod
    def _cost_of_refusal(state: BatchState, problem: Exception) -> int | None:
        """Nothing where the provider has no batch: it was not asked to make one yet, or said so in its own words."""
        if state.stage == "new" or isinstance(problem, NotFound):
            return 0
        return charge_after(None, problem, 0).nano

    def _is_to_be_sent_again(self, batch: Batch) -> bool:
        """Look for a batch that an interrupted call may have made. False: it was found, or is given up."""
        state = batch.state
        others = [other.batch_id for other in self.folder.all(self.caller.base) if other.is_certain and other.batch_id]
        try:
            state.batch_id, state.is_certain = self.protocol.find(self.caller, state, others, self._cancel)
        except NotFound:
            self._warn("a batch may have been handed in when the process or the connection broke, and this provider "
                       "keeps no list of batches", "it counts as spent with all that it may cost, and is asked again")
            self._register.put_down_again(batch, None)
            return False
        if state.batch_id:
            self._register.accepted(batch)
            batch.next_at = 0.0
            self._note(f"batch {state.label} {'was' if state.is_certain else 'may have been'} handed in before the "
                       "process or the connection broke; it is waited for, and nothing is sent twice")
            return False
        if self._register.can_send_again(batch):
            return True
        self._register.put_down_again(batch, 0)
        return False

    # ---- a batch ends

    def _finish(self, batch: Batch, view: View) -> Iterator[Reply]:
        """Fetch the results, hand out the replies, count the cost, and forget the batch once they were taken."""
        if view.is_too_much and len(batch.state.ids) > 1:
            self._shrink(batch)
            return
        # A file without a name: another run that waits for the same batch may be fetching it, too.
        folder, what = self.folder.folder, f"the results of batch {batch.state.label}"
        with writing(folder / "results", what), tempfile.TemporaryFile(dir=folder) as file:
            results = self._fetched(batch, view, file)
            if results is None:
                return
            is_cut = results.are_cut(file, view.lines)
            if is_cut and batch.failures < _DOWNLOADS:
                raise Transient("the results broke off", "server")
            yield from results.replies(file, view.rest_is_free and not is_cut)
        time.sleep(_JOURNALLED_S)
        state = batch.state
        if results.strays:
            self._warn(f"{results.strays} lines of the results of batch {state.label} belong to no request")
        nano = self._cost_of(results)
        cost = f" and cost ${nano / NANO:.4f}" if self._rules.price else ""
        self._register.forget(batch, nano)
        self._note(f"batch {state.label} of {amount(len(state.ids))} has ended{cost}")

    def _fetched(self, batch: Batch, view: View, file: IO[bytes]) -> Results | None:
        """The results, which are in `file` now; None when they are another batch's."""
        state = batch.state
        for address in view.results:
            self.caller.download(address, file, len(state.ids) * MAX_LINE_BYTES, self._cancel)
        results = Results(state, batch.wanted, self.protocol, self._target, self._rules, view.problem)
        if state.is_certain or results.is_ours(file):
            return results
        state.rejected.append(state.batch_id)
        state.stage, state.batch_id, batch.next_at = "sent", "", 0.0
        self.folder.save(state)
        return None

    def _cost_of(self, results: Results) -> int:
        """What the batch is charged with; what one item cost more than it was told, those without a count may too."""
        if results.excess_nano > self._ledger.worst(0, self._rules.of):
            self._ledger.learn(self._rules.of, results.excess_nano)
        return self._ledger.worst(results.cost_nano, self._rules.of, results.unseen)

    def _lose(self, batch: Batch) -> Iterator[Reply]:
        """The provider does not know the batch any more."""
        self._warn(f"the provider knows no batch {batch.state.label}",
                   "it counts as spent with all that it may cost; localdistill resume asks its questions again")
        for index, request in batch.wanted.items():
            cost = None if self._rules.price is None else batch.state.worst[index] / NANO
            yield Reply(request.id, "error", error="the provider lost the batch", cost_usd=cost)
        self._register.forget(batch, None)

    def _shrink(self, batch: Batch) -> None:
        """Too much of ours is waiting at the provider: wait until another batch ended, or ask for less at once."""
        self._register.put_down_again(batch, 0)
        count = len(batch.state.ids)
        self._most_batches = max(1, len(self._register.batches))
        if not self._register.batches:
            self._most_requests = max(1, count // 2)
        self._fill_at = time.monotonic() + self._options.batch_poll_s
        self._note(f"the provider has no room for a batch of {amount(count)} now; it is handed in later")

    # ---- what is said

    def _show(self) -> None:
        waiting = [batch for batch in self._register.batches if batch.state.stage == "waiting"]
        if waiting:
            done, total = sum(b.done for b in waiting), sum(len(b.state.ids) for b in waiting)
            label = f"batch {waiting[0].state.label}" if len(waiting) == 1 else f"{len(waiting)} batches"
            self._emit(Progressed(f"waiting for {label}", done, total, "answers"))

    def _note(self, text: str) -> None:
        self._emit(Noted(text))

    def _warn(self, text: str, hint: str = "") -> None:
        self._emit(Warned(text, hint))


def _named(batches: list[Batch]) -> str:
    return f"batch {batches[0].state.label} was" if len(batches) == 1 else f"{len(batches)} batches were"
