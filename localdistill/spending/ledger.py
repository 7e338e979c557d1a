"""The spend ledger of one run: what each paid call may cost, written down before it is sent (a write-ahead
reservation), and what it did cost.

Money is counted in whole nano-dollars, rounded up, so that sums are exact. A call whose end nobody saw (the process
was killed, the connection broke, the server failed) counts with all that was reserved for it: the cap holds across
restarts too. A server that was seen to charge more than was reserved may do so again: from then on all its calls count
with as much more.

What a ledger that is not whole once said is unknown: under a cap it counts as the whole cap, and nothing more is
reserved until a person states what was spent, which begins a new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, SpendingUnknown
from localdistill.safety.files import writing
from localdistill.safety.record_lines import encode
from localdistill.safety.written_size import side_line, side_of
from localdistill.spending.entries import BEGINS, VERSION, Reserved
from localdistill.spending.reading import NANO, Book, Proof, nano_of, read_ledger

__all__ = ["NANO", "SpendLedger"]


class SpendLedger:
    """Reserves before a call and settles after it. Threads and several engines may share one ledger."""

    def __init__(self, path: Path | None = None, cap_usd: float | None = None, proof: Proof | None = None) -> None:
        """path: the file that survives restarts; None keeps the ledger in memory. cap_usd: None sets no cap. proof:
        what else says that calls were made, asked where the ledger holds none."""
        self._lock = threading.Lock()
        self._mine: set[int] = set()
        """Tickets of the calls that this process has under way."""
        self._held: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        """What is reserved for them without any excess, and their number, by whom they go to."""
        self._may_write = True
        self.cap_nano = None if cap_usd is None else nano_of(cap_usd)
        self.path = path
        self._file: int | None = None
        self._size: int | None = None
        self._broken: LocalDistillError | None = None
        """Why no line can be written any more."""
        book = read_ledger(path, proof) if path is not None else Book()
        self._entries = book.entries
        self.problem = book.problem
        """Why more may have been spent than is known; empty when the ledger is whole."""
        lost: list[dict[str, Any]] = []
        if book.problem and (not book.entries.lost or book.least > book.entries.total):
            lost = [{"lost": book.problem, "least": book.least}]
            self._entries.take(lost[0])
        if path is not None:
            self._may_write = not book.is_newer
            self._open_file(path, book, lost)

    def _open_file(self, path: Path, book: Book, lost: list[dict[str, Any]]) -> None:
        """Open the ledger for further lines, which begin on a line of their own; what is missing of it stays said."""
        if not self._may_write:
            return
        version = book.entries.version
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.open(side_of(path), os.O_WRONLY | os.O_CREAT, 0o644)
            if not version and not lost:
                self._keep_size()  # first: a ledger without its size is not whole
            if book.is_torn and not lost:
                os.ftruncate(self._file, book.size)
            begins = [{BEGINS: VERSION}] if version < VERSION else []
            if lost or begins:
                os.write(self._file, b"\n" * bool(lost) + b"".join(map(encode, [*lost, *begins])))
            self._keep_size()
        except OSError as error:
            self.problem, self._may_write = self.problem or f"it cannot be written: {error.strerror}", False

    def _keep_size(self) -> None:
        if self._file is not None and self._size is not None:
            os.pwrite(self._size, side_line(os.fstat(self._file).st_size, total=self._entries.total), 0)

    @property
    def spent_nano(self) -> int:
        """All that was or may have been spent by calls that ended, this run's earlier processes included. Under a cap
        that is the whole cap where nobody knows."""
        known = self._entries.total - self.reserved_nano
        return max(known, self.cap_nano) if self.problem and self.cap_nano is not None else known

    @property
    def assumed_nano(self) -> int:
        """The part of `spent_nano` that was reserved for calls whose end was not seen."""
        return self._entries.total - self._entries.settled - self.reserved_nano

    @property
    def spent_usd(self) -> float:
        """`spent_nano` in dollars, for showing."""
        return self.spent_nano / NANO

    @property
    def reserved_nano(self) -> int:
        """What the calls now under way may cost at most."""
        calls = tuple(self._calls.items())
        return sum(self._held[of] + count * self._entries.excess(of) for of, count in calls)

    def require_known(self) -> None:
        """SpendingUnknown when there is a cap and nobody knows what of it is left, or when the ledger takes no line."""
        if self.path is None or not self.problem or (self.cap_nano is None and self._may_write):
            return
        run = self.path.parent.name
        raise SpendingUnknown(
            f"what run {run} has spent is not known (${self._entries.total / NANO:.4f} at least), for its ledger of "
            f"calls, {self.path.name}, is not whole: {self.problem}",
            f"say what it was, calls under way included, as the provider's bill shows it: localdistill resume {run} "
            "--spent USD")

    def worst(self, nano: int, of: str, calls: int = 1) -> int:
        """What calls to `of` may cost for which `nano` is the most by what they are told."""
        return nano + calls * self._entries.excess(of)

    def reserve(self, nano: int, of: str = "", calls: int = 1, batch: str = "") -> int | None:
        """A ticket for a call that is told to cost `nano` at most, or for a batch of `calls`, or None when there is no
        room for it now: when nothing is reserved any more either, there is none at all.

        of: the host and the model that are asked; empty: nobody in particular. batch: its name, by which it is known
        after this process, whatever it costs. Under a cap only one call at a time goes
        to an engine that nobody knows: what one that keeps to no limit charges beyond it is found out with one.
        SpendingUnknown as `require_known`, unless the call costs nothing; LocalDistillError when it cannot be written.
        """
        if nano or not self._may_write:
            self.require_known()
        with self._lock:
            entries = self._entries
            if self.cap_nano is not None and nano and (
                    entries.total + self.worst(nano, of, calls) > self.cap_nano or (calls == 1 and self._waits(of))):
                return None
            ticket = entries.next
            try:
                self._put({"call": ticket, "reserved": nano, **({"of": of} if of else {}),
                           **({"calls": calls} if calls > 1 else {}), **({"batch": batch} if batch else {})})
            except LocalDistillError:
                entries.take({"call": ticket, "cost": 0})
                raise
            self._take_up(ticket)
            return ticket

    def _take_up(self, ticket: int) -> None:
        reserved = self._entries.open[ticket]
        self._mine.add(ticket)
        self._held[reserved.of] += reserved.nano
        self._calls[reserved.of] += reserved.calls

    def _waits(self, of: str) -> bool:
        """Nobody knows this engine yet, and a call to one like that is under way."""
        entries = self._entries
        if not of or entries.account(of).is_known:
            return False
        under_way = (entries.open[ticket] for ticket in self._mine)
        return any(one.calls == 1 and one.nano and not entries.account(one.of).is_known for one in under_way)

    def batches_left(self) -> dict[int, Reserved]:
        """The batches that earlier processes reserved for and nobody has ended or taken over, by ticket."""
        with self._lock:
            return {ticket: one for ticket, one in self._entries.batches.items() if ticket not in self._mine}

    def worth(self, reserved: Reserved) -> int:
        """What a reservation comes to now, in nano-dollars."""
        return self._entries.worth(reserved)

    def adopt(self, ticket: int) -> bool:
        """Take over a call that may have outlived the process which reserved for it (a batch): its reservation counts
        as under way again, and `settle` ends it. False when this ledger knows no such open call."""
        with self._lock:
            if ticket in self._entries.open and ticket not in self._mine:
                self._take_up(ticket)
            return ticket in self._mine

    def saw(self, ticket: int, nano: int, is_whole: bool = False) -> None:
        """A single call has surely cost `nano`, as what came shows; is_whole: and that is all of it. What is more than
        was reserved, other calls to this engine may cost too, those that are open included."""
        with self._lock:
            reserved = self._entries.open.get(ticket) if ticket in self._mine else None
            if reserved is not None:
                self._learn(reserved.of, nano - reserved.nano, is_whole)

    def learn(self, of: str, excess_nano: int) -> None:
        """An item of a batch cost so much more than was reserved for it."""
        with self._lock:
            self._learn(of, excess_nano, False)

    def _learn(self, of: str, excess: int, is_whole: bool) -> None:
        account = self._entries.account(of)
        if excess > account.excess or (is_whole and not account.is_known):
            self._put({"of": of, "excess": max(excess, account.excess)})

    def settle(self, ticket: int, cost_nano: int | None) -> int:
        """The call has ended and did cost `cost_nano`; None when nobody knows: then all that was reserved counts.
        Returns what was counted."""
        with self._lock:
            if ticket not in self._mine:
                return 0
            self._mine.remove(ticket)
            reserved = self._entries.open[ticket]
            self._held[reserved.of] -= reserved.nano
            self._calls[reserved.of] -= reserved.calls
            if cost_nano is not None and reserved.calls == 1 and cost_nano > reserved.nano:
                self._learn(reserved.of, cost_nano - reserved.nano, True)
            self._put({"call": ticket, "cost": cost_nano})
            return self._entries.worth(reserved) if cost_nano is None else cost_nano

    def _put(self, record: dict[str, Any]) -> None:
        self._entries.take(record)
        self._write(record)

    def _write(self, record: Mapping[str, Any]) -> None:
        """One line, in the file before the call goes out: a killed process leaves it behind. After one that cannot be
        written none is: it would say what the lines before it do not come to."""
        if self._file is None:
            return
        if self._broken is not None:
            raise self._broken
        line = encode({**record, "total": self._entries.total})
        try:
            with writing(self.path or Path(), "the ledger of calls"):
                size = os.fstat(self._file).st_size
                if os.write(self._file, line) < len(line):
                    os.ftruncate(self._file, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._keep_size()
        except LocalDistillError as error:
            self._broken = error
            raise

    def close(self) -> None:
        """Everything on disk. Harmless to call twice."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.fsync(self._file)
                os.close(self._file)
                self._file = None
            if self._size is not None:
                os.close(self._size)
                self._size = None
