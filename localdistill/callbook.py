"""The book of one run's paid calls: what each may cost, written down before it is sent, and what it did cost.

Money is counted in whole nano-dollars, rounded up, so that sums are exact. A call whose end nobody saw (the process
was killed, the connection broke) counts with all that was reserved for it: the cap holds across restarts too.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from localdistill.errors import LocalDistillError
from localdistill.journal import decode, encode

NANO = 1_000_000_000


class CallBook:
    """Reserves before a call and settles after it. Threads and several engines may share one book."""

    def __init__(self, path: Path | None = None, cap_usd: float | None = None) -> None:
        """path: the file that survives restarts; None keeps the book in memory. cap_usd: None sets no cap."""
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self._settled = self._assumed = 0
        self._next = 0
        self.cap_nano = None if cap_usd is None else int(cap_usd * NANO)
        self.path = path
        self._file: int | None = None
        if path is not None:
            self._read(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(self._file, b"\n" * (self._next > 0))  # a torn last line ends here

    def _read(self, path: Path) -> None:
        """Fold the lines of earlier processes; what they left open is assumed to be spent."""
        open_before: dict[int, int] = {}
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as handle:
            for line in handle:
                record = decode(line.rstrip(b"\n"))
                if record is None:
                    continue
                ticket = int(record["call"])
                self._next = max(self._next, ticket + 1)
                if "reserved" in record:
                    open_before[ticket] = int(record["reserved"])
                elif ticket in open_before:
                    reserved = open_before.pop(ticket)
                    self._count(reserved, record.get("cost"))
        self._left = open_before
        self._assumed += sum(open_before.values())

    def _count(self, reserved: int, cost: int | None) -> None:
        if cost is None:
            self._assumed += reserved
        else:
            self._settled += cost

    @property
    def spent_nano(self) -> int:
        """All that was or may have been spent by calls that ended, this run's earlier processes included."""
        return self._settled + self._assumed

    @property
    def assumed_nano(self) -> int:
        """The part of `spent_nano` that was reserved for calls whose end was not seen."""
        return self._assumed

    @property
    def spent_usd(self) -> float:
        """`spent_nano` in dollars, for showing."""
        return self.spent_nano / NANO

    @property
    def reserved_nano(self) -> int:
        """What the calls now under way may cost at most."""
        return sum(self._open.values())

    def reserve(self, nano: int) -> int | None:
        """A ticket for a call that may cost `nano` at most, or None when the cap leaves no room for it now: when
        nothing is reserved any more either, there is none at all. LocalDistillError when it cannot be written."""
        with self._lock:
            if self.cap_nano is not None and self.spent_nano + self.reserved_nano + nano > self.cap_nano:
                return None
            ticket, self._next = self._next, self._next + 1
            self._write({"call": ticket, "reserved": nano})
            self._open[ticket] = nano
            return ticket

    def adopt(self, ticket: int) -> bool:
        """Take over a call that may have outlived the process which reserved for it (a batch): its reservation counts
        as under way again, and `settle` ends it. False when this book knows no such open call."""
        with self._lock:
            if ticket in self._left:
                self._open[ticket] = self._left.pop(ticket)
                self._assumed -= self._open[ticket]
            return ticket in self._open

    def settle(self, ticket: int, cost_nano: int | None) -> int:
        """The call has ended and did cost `cost_nano`; None when nobody knows: then all that was reserved counts.
        Returns what was counted."""
        with self._lock:
            reserved = self._open.pop(ticket, None)
            if reserved is None:
                return 0
            self._count(reserved, cost_nano)
            self._write({"call": ticket, "cost": cost_nano})
            return reserved if cost_nano is None else cost_nano

    def _write(self, record: dict[str, Any]) -> None:
        """One line, in the file before the call goes out: a killed process leaves it behind."""
        if self._file is None:
            return
        try:
            os.write(self._file, encode(record))
        except OSError as error:
            raise LocalDistillError(
                f"the book of calls cannot be written: {error.strerror}", "free some disk and resume"
            ) from error

    def close(self) -> None:
        """Everything on disk. Harmless to call twice."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.fsync(self._file)
                os.close(self._file)
                self._file = None
