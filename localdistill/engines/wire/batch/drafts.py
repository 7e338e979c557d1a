"""Requests on their way into batches: pulled lazily, written to a file one by one, and cut where the provider's limits
or the money end. Hands nothing in."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from localdistill.core.errors import BudgetReached
from localdistill.core.records import Request
from localdistill.engines.wire.batch.protocols import BatchProtocol
from localdistill.engines.wire.batch.states import BatchFolder, new_token
from localdistill.safety.files import writing
from localdistill.spending.ledger import NANO, SpendLedger


class Draft:
    """A batch that is being written down. `seal` or `discard` ends it."""

    def __init__(self, folder: BatchFolder, protocol: BatchProtocol, most_requests: int) -> None:
        self.token = new_token()
        self.requests: list[Request] = []
        self.worst: list[int] = []
        self.total_nano = 0
        self._folder, self._protocol, self._most = folder, protocol, min(most_requests, protocol.most_requests)
        self._bytes = sum(len(part) for part in protocol.frame)
        self.lock: IO[bytes] | None = None
        self._file: IO[bytes] | None = None

    @property
    def _path(self) -> Path:
        return self._folder.requests(self.token)

    @property
    def next_custom_id(self) -> str:
        """The name of the next item."""
        return f"{self.token}-{len(self.requests)}"

    def has_place(self, item: bytes) -> bool:
        """The provider takes a batch with `item` in it too."""
        between = len(self._protocol.frame[1])
        return len(self.requests) < self._most and self._bytes + len(item) + between <= self._protocol.most_bytes

    def add(self, request: Request, item: bytes, worst: int) -> None:
        """Write one more request down."""
        begin, between, _ = self._protocol.frame
        with writing(self._path, "a batch"):
            if self._file is None:
                self.lock = self._folder.lock(self.token)
                self._file = open(self._path, "wb")  # noqa: SIM115 - lives as long as the draft
            self._bytes += self._file.write((between if self.requests else begin) + item)
        self.requests.append(request)
        self.worst.append(worst)
        self.total_nano += worst

    def seal(self) -> None:
        """Everything on disk."""
        if self._file is not None:
            with writing(self._path, "a batch"):
                self._file.write(self._protocol.frame[2])
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()

    def discard(self) -> None:
        """Forget it all."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._folder.remove(self.token)
        if self.lock is not None:
            self.lock.close()



class Queue:
    """The requests that are still to be handed in: those that came back first, then the source."""

    def __init__(self, source: Iterable[Request]) -> None:
        self._source: Iterator[Request] = iter(source)
        self._held: deque[Request] = deque()
        self._is_dry = False

    @property
    def is_empty(self) -> bool:
        """Nothing will come any more; only a look at the source shows it."""
        return self._is_dry and not self._held

    def next(self) -> Request | None:
        """One request, None at the end."""
        if self._held:
            return self._held.popleft()
        request = None if self._is_dry else next(self._source, None)
        self._is_dry |= request is None
        return request

    def put_back(self, requests: Iterable[Request]) -> None:
        """Requests to be handed in again, before all others."""
        self._held.extendleft(reversed(list(requests)))


def room_nano(ledger: SpendLedger) -> int | None:
    """What the cap leaves; None without a cap. SpendingUnknown when nobody knows."""
    ledger.require_known()
    return None if ledger.cap_nano is None else ledger.cap_nano - ledger.spent_nano - ledger.reserved_nano


def cap_reached(ledger: SpendLedger, worst: int) -> BudgetReached:
    """The error when not even one request has room."""
    return BudgetReached(
        f"the cap of ${(ledger.cap_nano or 0) / NANO:.4f} is reached: ${ledger.spent_usd:.4f} are spent, and the next "
        f"call could cost ${worst / NANO:.4f}", "raise max_usd and resume; what was answered is kept")
