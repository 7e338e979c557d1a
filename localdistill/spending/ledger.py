"""The spend ledger of one run: what each paid call may cost, written down before it is sent (a write-ahead
reservation), and what it did cost.

Money is counted in whole nano-dollars, rounded up, so that sums are exact. A call whose end nobody saw (the process
was killed, the connection broke) counts with all that was reserved for it: the cap holds across restarts too.

Beside the ledger lies its size, so that one that was cut or deleted is known to be. What a ledger that is not whole
once said is unknown: under a cap nothing more is reserved until a person states what was spent, which begins a new
one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localdistill.core.errors import LocalDistillError, SpendingUnknown
from localdistill.safety.files import sync_folder
from localdistill.safety.journal import decode, encode

NANO = 1_000_000_000
VERSION = 1
_BEGINS = "book"
"""The key of the line that a ledger begins with."""

Proof = Callable[[], str]
"""Why calls must have been made although the ledger holds none; empty when nothing says so."""


@dataclass
class Entries:
    """What a ledger says."""

    calls: int = 0
    settled: int = 0
    """Nano-dollars of calls whose cost was seen, and what a person stated."""
    assumed: int = 0
    """Nano-dollars of calls that ended without it."""
    open: dict[int, int] = field(default_factory=dict)
    """What is reserved for calls whose end is not written down, by ticket."""
    next: int = 0
    """The first free ticket."""
    lost: str = ""
    """Why it was not whole when it was opened before; nobody has stated anything since."""
    problem: str = ""
    """Why it may not be all."""
    is_newer: bool = False
    """A newer version wrote it: nothing may be added."""
    is_known: bool = False
    """It says of itself that it is a ledger, so that one without a call is one of a run that made none."""
    size: int = 0
    """Bytes of whole lines."""
    is_torn: bool = False
    """Half a line is behind them, of a call that was never sent: whoever wrote it died before."""

    def take(self, record: Mapping[str, object]) -> None:
        """Add one line. Raises ValueError, KeyError or TypeError when it is none of ours."""
        if _BEGINS in record:
            self.is_newer |= _whole(record[_BEGINS]) > VERSION
            self.is_known = True
        elif "lost" in record:
            self.lost = str(record["lost"])
        elif "stated" in record:
            self.settled, self.assumed, self.open, self.lost = _whole(record["stated"]), 0, {}, ""
            self.next = max(self.next, _whole(record["next"]))
        elif "reserved" in record:
            ticket = _whole(record["call"])
            self.open[ticket] = _whole(record["reserved"])
            self.next, self.calls = max(self.next, ticket + 1), self.calls + 1
        else:
            ticket, cost = _whole(record["call"]), record["cost"]
            amount = None if cost is None else _whole(cost)
            reserved = self.open.pop(ticket)
            self.assumed += reserved if amount is None else 0
            self.settled += amount or 0


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a whole number")
    return value


def read_ledger(path: Path, proof: Proof | None = None) -> Entries:
    """What the ledger at `path` says, and whether that is all. Raises nothing, and is safe beside whoever writes."""
    entries, damaged = Entries(), 0
    kept = _kept_size(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        entries.problem = f"it cannot be read: {error.strerror}"
        return entries
    *lines, rest = data.split(b"\n")
    entries.size, entries.is_torn = len(data) - len(rest), bool(rest)
    for line in filter(bytes.strip, lines):
        try:
            entries.take(decode(line) or {})
        except (ValueError, KeyError, TypeError):
            damaged += 1
    if entries.is_newer:
        entries.problem = "a newer version of localdistill wrote it"
    elif entries.lost:
        entries.problem = entries.lost
    elif damaged:
        entries.problem = f"{damaged} of its lines cannot be read"
    elif kept is None and entries.is_known:
        entries.problem = "how long it was is not known any more"
    elif entries.size < (kept or 0) or (kept is None and rest.strip()):
        entries.problem = "a part of it is missing" if data else "it is gone"
    elif not (entries.is_known or entries.calls) and proof is not None:
        entries.problem = proof()
    return entries


def state_spent(path: Path, usd: float) -> None:
    """Begin a new ledger at `path` in which `usd` are spent, as a person says; the one before is kept beside it."""
    before, number = read_ledger(path), 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    fresh = path.with_name(f"{path.name}.partial")
    # Tickets of the ledger before may still be remembered elsewhere, whatever can be read of it.
    stated = {"stated": round(usd * NANO), "next": max(before.next, int(time.time())), "at": round(time.time())}
    data = encode({_BEGINS: VERSION}) + encode(stated)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        if path.exists():
            os.replace(path, kept)
        _size_file(path).unlink(missing_ok=True)
        os.replace(fresh, path)
        _size_file(path).write_bytes(b"%020d\n" % len(data))
        sync_folder(path.parent)
    except OSError as error:
        raise LocalDistillError(f"the ledger of calls cannot be written: {error.strerror}",
                                "free some disk and state it again") from error


def _size_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.size")


def _kept_size(path: Path) -> int | None:
    """How large the ledger was; None when that was not kept or cannot be read."""
    try:
        return int(_size_file(path).read_bytes())
    except (OSError, ValueError):
        return None


class SpendLedger:
    """Reserves before a call and settles after it. Threads and several engines may share one ledger."""

    def __init__(self, path: Path | None = None, cap_usd: float | None = None, proof: Proof | None = None) -> None:
        """path: the file that survives restarts; None keeps the ledger in memory. cap_usd: None sets no cap. proof:
        what else says that calls were made, asked where the ledger holds none."""
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self._settled = self._assumed = 0
        self._next = 0
        self._may_write = True
        self.cap_nano = None if cap_usd is None else int(cap_usd * NANO)
        self.path = path
        self.problem = ""
        """Why more may have been spent than `spent_nano`; empty when the ledger is whole."""
        self._file: int | None = None
        self._size: int | None = None
        if path is not None:
            entries = read_ledger(path, proof)
            self._settled, self._left, self._next = entries.settled, entries.open, entries.next
            self._assumed = entries.assumed + sum(entries.open.values())
            self.problem, self._may_write = entries.problem, not entries.is_newer
            self._open_file(path, entries)

    def _open_file(self, path: Path, entries: Entries) -> None:
        """Open the ledger for further lines, which begin on a line of their own; what is missing of it stays said."""
        if not self._may_write:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if entries.problem and not entries.lost:
                os.write(self._file, b"\n" + encode({"lost": entries.problem}))
            elif entries.is_torn:
                os.ftruncate(self._file, entries.size)
            if not entries.is_known:
                os.write(self._file, encode({_BEGINS: VERSION}))
            self._size = os.open(_size_file(path), os.O_WRONLY | os.O_CREAT, 0o644)
            self._keep_size()
        except OSError as error:
            self.problem, self._may_write = self.problem or f"it cannot be written: {error.strerror}", False

    def _keep_size(self) -> None:
        if self._file is not None and self._size is not None:
            os.pwrite(self._size, b"%020d\n" % os.fstat(self._file).st_size, 0)

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

    def require_known(self) -> None:
        """SpendingUnknown when there is a cap and nobody knows what of it is left, or when the ledger takes no line."""
        if self.path is None or not self.problem or (self.cap_nano is None and self._may_write):
            return
        run = self.path.parent.name
        raise SpendingUnknown(
            f"what run {run} has spent is not known (${self.spent_usd:.4f} at least), for its ledger of "
            f"calls, {self.path.name}, is not whole: {self.problem}",
            f"say what it was, calls under way included, as the provider's bill shows it: localdistill resume {run} "
            "--spent USD")

    def reserve(self, nano: int) -> int | None:
        """A ticket for a call that may cost `nano` at most, or None when the cap leaves no room for it now: when
        nothing is reserved any more either, there is none at all. SpendingUnknown as `require_known`, unless the call
        costs nothing; LocalDistillError when it cannot be written."""
        if nano or not self._may_write:
            self.require_known()
        with self._lock:
            if self.cap_nano is not None and self.spent_nano + self.reserved_nano + nano > self.cap_nano:
                return None
            ticket, self._next = self._next, self._next + 1
            self._write({"call": ticket, "reserved": nano})
            self._open[ticket] = nano
            return ticket

    def adopt(self, ticket: int) -> bool:
        """Take over a call that may have outlived the process which reserved for it (a batch): its reservation counts
        as under way again, and `settle` ends it. False when this ledger knows no such open call."""
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

    def _write(self, record: Mapping[str, object]) -> None:
        """One line, in the file before the call goes out: a killed process leaves it behind."""
        if self._file is None:
            return
        try:
            os.write(self._file, encode(record))
            self._keep_size()
        except OSError as error:
            raise LocalDistillError(
                f"the ledger of calls cannot be written: {error.strerror}", "free some disk and resume"
            ) from error

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
