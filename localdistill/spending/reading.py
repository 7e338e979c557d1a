"""The files of a spend ledger as they are found: what is known of what was spent, and whether that is all. Reading
changes nothing; only what a person states begins a new ledger.

Every line has a checksum and says what all lines come to; beside the ledger lies its size with the same sum. So one
that was damaged, cut or deleted is known to be, and what it surely held is not forgotten.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.safety.files import sync_folder
from localdistill.safety.record_lines import decode, encode
from localdistill.safety.written_size import SIDE, said_in, side_line, side_of
from localdistill.spending.entries import BEGINS, VERSION, Entries

NANO = 1_000_000_000

Proof = Callable[[], str]
"""Why calls must have been made although the ledger holds none; empty when nothing says so."""


@dataclass
class Book:
    """A ledger as its files are found."""

    entries: Entries = field(default_factory=Entries)
    problem: str = ""
    """Why it may not be all."""
    least: int = 0
    """Nano-dollars that are spent or reserved at least, whatever of it is damaged."""
    size: int = 0
    """Bytes of whole lines."""
    is_torn: bool = False
    """Half a line is behind them, of a call that was never sent: whoever wrote it died before."""

    @property
    def is_newer(self) -> bool:
        """A newer version wrote it: nothing may be added."""
        return self.entries.version > VERSION

    def counted(self, cap_usd: float | None) -> int:
        """What counts as spent or reserved: under a cap, all of it where nobody knows."""
        return max(self.least, nano_of(cap_usd)) if self.problem and cap_usd is not None else self.least


def nano_of(cap_usd: float) -> int:
    """A cap in nano-dollars, rounded down."""
    return int(cap_usd * NANO)


def read_ledger(path: Path, proof: Proof | None = None) -> Book:
    """What the ledger at `path` says, and whether that is all. Raises nothing, and is safe beside whoever writes."""
    side = _bytes_of(side_of(path))  # first: whoever writes may be ahead of its size, never behind
    data = _bytes_of(path)
    if isinstance(data, OSError):
        return Book(problem=f"it cannot be read: {data.strerror}", least=_kept(side)[1])
    return understood(data, side, proof)


def understood(data: bytes | None, side: bytes | OSError | None, proof: Proof | None = None) -> Book:
    """What a ledger of these bytes says beside which `side` lies; None: there is no such file."""
    book, damaged, data = Book(), 0, data or b""
    entries, (kept, known) = book.entries, _kept(side)
    *lines, rest = data.split(b"\n")
    book.size, book.is_torn = len(data) - len(rest), bool(rest)
    at, then = 0, 0 if not kept else None
    for line in lines:
        at += len(line) + 1
        if line.strip():
            try:
                entries.take(decode(line) or {})
            except (ValueError, KeyError, TypeError):
                damaged += 1
        if at == kept:
            then = entries.total
    book.least = entries.total
    if book.is_newer:
        book.problem = "a newer version of localdistill wrote it"
    elif entries.lost:
        book.problem = entries.lost
    elif damaged:
        book.problem = f"{damaged} of its lines cannot be read"
    elif entries.is_wrong:
        book.problem = "its sums do not agree"
    elif known and kept and kept <= book.size and then != known:
        book.problem = "it is not the one whose size was kept"
    elif kept is None and entries.version:
        book.problem = "how long it was is not known any more"
    elif book.size < (kept or 0) or (kept is None and rest.strip()):
        book.problem = "a part of it is missing" if data else "it is gone"
    elif not (entries.version or entries.calls) and proof is not None:
        book.problem = proof()
    if book.problem:
        book.least = max(book.least, entries.least, known)
    return book


def state_spent(path: Path, usd: float) -> None:
    """Begin a new ledger at `path` in which `usd` are spent, as a person says; the one before is kept beside it."""
    before, number = read_ledger(path).entries, 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    fresh, side = path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}{SIDE}.partial")
    nano = math.ceil(usd * NANO)
    # Tickets of the ledger before may still be remembered elsewhere, whatever can be read of it.
    stated: dict[str, Any] = {"stated": nano, "total": nano, "at": round(time.time()),
                              "next": max(before.next, int(time.time()))}
    learned = ({"of": of, "excess": account.excess} for of, account in before.accounts.items() if account.excess)
    data = encode({BEGINS: VERSION}) + encode(stated) + b"".join(map(encode, learned))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        side.write_bytes(side_line(len(data), total=nano))
        if path.exists():
            os.replace(path, kept)
        os.replace(fresh, path)
        os.replace(side, side_of(path))  # last: until then a part is missing, so nothing is taken for whole too soon
        sync_folder(path.parent)
    except OSError as error:
        raise LocalDistillError(f"the ledger of calls cannot be written: {error.strerror}",
                                "free some disk and state it again") from error


def _bytes_of(path: Path) -> bytes | OSError | None:
    """What a file holds; None when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error


def _kept(side: bytes | OSError | None) -> tuple[int | None, int]:
    """How large the ledger was, None when that was not kept or cannot be read; and what it came to."""
    if side is None or isinstance(side, OSError):
        return None, 0
    try:
        said = said_in(side) if b" " in side else {"size": int(side), "total": 0}
        return said["size"], said["total"]
    except (ValueError, KeyError, TypeError):
        return None, 0
