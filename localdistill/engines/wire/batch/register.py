"""The batches that somebody here waits for: which requests are in which, whose money is reserved for them, who is
handing them in, and what is remembered when they end. Asks no provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO

from localdistill.core.records import Request
from localdistill.engines.wire.batch.drafts import Draft, Queue
from localdistill.engines.wire.batch.states import BatchFolder, BatchState
from localdistill.spending.entries import Reserved
from localdistill.spending.ledger import SpendLedger

_ASK_AGAIN_S = 1.0


@dataclass
class Batch:
    """One batch that is waited for."""

    state: BatchState
    ticket: int | None
    """Its reservation in our ledger; None when it is in another one."""
    lock: IO[bytes] | None = None
    """Held as long as we are handing it in."""
    wanted: dict[int, Request] = field(default_factory=dict)
    """Who waits for which item."""
    next_at: float = 0.0
    """When it is looked at next, on the monotonic clock."""
    failures: int = 0
    """Calls for it that failed since the last that did not."""
    trouble_since: float | None = None
    times_missing: int = 0
    done: int = 0


class Register:
    """All batches of one call of `answer_in_batches`."""

    def __init__(self, folder: BatchFolder, ledger: SpendLedger, queue: Queue) -> None:
        self.batches: list[Batch] = []
        self._folder, self._ledger, self._queue = folder, ledger, queue
        self._ledger_name = f"{ledger.path.parent.name}/{ledger.path.name}" if ledger.path else ""
        self._known: dict[str, tuple[BatchState, int]] = {}

    def recall(self, base: str) -> list[Batch]:
        """Join the requests of the queue to the batches that earlier processes put them into; returns those batches.
        Looks at every request, so that none is missed when its batch ends."""
        for state in self._folder.all(base):
            self._known.update((name, (state, index)) for index, name in enumerate(state.ids) if name)
        if self._known:
            fresh = []
            while (request := self._queue.next()) is not None:
                if not self._joins(request):
                    fresh.append(request)
            self._queue.put_back(fresh)
            self._known.clear()
        return list(self.batches)

    def forgotten(self) -> list[Reserved]:
        """The batches that our ledger has under way and no file remembers. Nobody will fetch what comes of them, nor of
        those whose answers other runs took: they are settled, and nobody knows for how much."""
        found = []
        for ticket, reserved in self._ledger.batches_left().items():
            token, is_known = reserved.batch, self._folder.knows(reserved.batch)
            state = self._folder.read(token) if is_known else None
            if state is not None and any(state.ids):
                continue
            if self._ledger.adopt(ticket):
                self._ledger.settle(ticket, None)
                self._folder.remove(token)
            found += [] if is_known else [reserved]
        return found

    def _joins(self, request: Request) -> bool:
        state, index = self._known.get(request.id, (None, 0))
        if state is None:
            return False
        batch = next((b for b in self.batches if b.state.token == state.token), None)
        if batch is None:
            ticket = state.ticket if self.is_mine(state) else None
            batch = Batch(state, ticket if ticket is not None and self._ledger.adopt(ticket) else None)
            self.batches.append(batch)
        batch.wanted[index] = request
        return True

    def is_mine(self, state: BatchState) -> bool:
        """The run that asks now is the one that handed it in."""
        return state.ledger == self._ledger_name

    def add(self, draft: Draft, kind: str, base: str, model: str, ticket: int) -> None:
        """Remember a sealed draft: from now on it may be handed in."""
        ids = [request.id for request in draft.requests]
        state = BatchState(draft.token, kind, base, model, self._ledger_name, ticket, ids, draft.worst)
        self.batches.append(Batch(state, ticket, draft.lock, dict(enumerate(draft.requests))))
        self._folder.save(state)

    def take_over(self, batch: Batch, now: float) -> bool:
        """Whether the batch is ours to hand in. One that another process is handing in is left to it; one that a
        process left behind before it sent anything is put down anew."""
        if batch.lock is not None:
            return True
        token = batch.state.token
        lock, current = self._folder.lock(token), self._folder.read(token)
        if current is None or current.stage == "waiting":
            if lock is not None:
                self._folder.unlock(token, lock)
            if current is None:
                self._drop(batch)
                self._queue.put_back(batch.wanted.values())
            else:
                batch.state = current
            return False
        if lock is None:
            batch.next_at = now + _ASK_AGAIN_S
            return False
        batch.state, batch.lock = current, lock
        if current.stage == "new":
            self.put_down_again(batch, 0)
            return False
        return True

    def can_send_again(self, batch: Batch) -> bool:
        """A batch that the provider does not have can be handed in as it is: it is ours, paid for, and still there."""
        is_paid = batch.ticket is not None or not any(batch.state.worst)
        return self.is_mine(batch.state) and is_paid and self._folder.requests(batch.state.token).exists()

    def accepted(self, batch: Batch) -> None:
        """The provider has it and we know its id."""
        batch.state.stage = "waiting"
        self._folder.save(batch.state)
        self._folder.requests(batch.state.token).unlink(missing_ok=True)
        if batch.lock is not None:
            self._folder.unlock(batch.state.token, batch.lock)
        batch.lock, batch.trouble_since, batch.failures = None, None, 0

    def forget(self, batch: Batch, cost: int | None) -> None:
        """Settle (None: nobody knows what it cost), and remove what is remembered. Of a batch that another run handed
        in only what was taken here is removed: the rest is that run's to collect, and its ledger is."""
        self._settle(batch, cost)
        state = batch.state
        for index in batch.wanted:
            state.ids[index] = ""
        if self.is_mine(state):
            self._folder.remove(state.token)
        else:
            self._folder.save(state)
        self._drop(batch)

    def put_down_again(self, batch: Batch, cost: int | None) -> None:
        """Forget a batch that the provider does not have, and hand its requests in anew."""
        self.forget(batch, cost)
        self._queue.put_back(batch.wanted.values())

    def close(self) -> None:
        """Let go of everything; what was surely not handed in is forgotten."""
        for batch in list(self.batches):
            if batch.lock is not None and batch.state.stage == "new":
                self._settle(batch, 0)
                self._folder.remove(batch.state.token)
            self._drop(batch)

    def _drop(self, batch: Batch) -> None:
        if batch.lock is not None:
            batch.lock.close()
            batch.lock = None
        self.batches.remove(batch)

    def _settle(self, batch: Batch, cost: int | None) -> None:
        if batch.ticket is not None:
            self._ledger.settle(batch.ticket, cost)
            batch.ticket = None
