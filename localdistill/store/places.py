"""How far the store has read each journal. A place is stored in the same transaction as the rows before it, so both are
lost together or not at all. A small file beside the store remembers the same places: where it is ahead, the store lost
rows that it once had."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.safety.journal import bytes_before
from localdistill.store.rows import storable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Place:
    """How far one journal was read."""

    read_bytes: int = 0
    """Offset behind the last line that was read."""
    tail: str = ""
    """Fingerprint of what the journal holds before that: another file has another one."""
    damaged: int = 0
    """Lines before it that could not be read."""
    closed_bytes: int = -1
    open_bytes: int = -1
    """Sizes of the parts when they were read; -1 where that was not noted."""
    last_at: float = 0.0
    """When the newest line was said."""

    def with_sizes(self, closed_bytes: int, open_bytes: int) -> Place:
        """The same place in a journal whose parts have other sizes."""
        return replace(self, closed_bytes=closed_bytes, open_bytes=open_bytes)


_COLUMNS = {"read_bytes": "0", "tail": "''", "damaged": "0", "closed_bytes": "-1", "open_bytes": "-1", "last_at": "0"}
"""With what stands where a column is NULL: of rows from before it."""
_SELECT = f"SELECT path, {', '.join(f'coalesce({name}, {other})' for name, other in _COLUMNS.items())} " \
          "FROM journal_offsets"


def key_of(store: Path, path: Path) -> str:
    """The journal's path below the workspace, so that a workspace can move; else its whole path."""
    path, root = path.resolve(), store.resolve().parent
    return storable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def places(con: DuckDBPyConnection) -> dict[str, Place]:
    """The places in all journals, by their keys."""
    return {key: Place(*cells) for key, *cells in con.execute(_SELECT).fetchall()}


def place_of(con: DuckDBPyConnection, key: str) -> Place | None:
    """The place in one journal; None when it was never read."""
    rows = con.execute(f"{_SELECT} WHERE path = ?", [key]).fetchall()
    return Place(*rows[0][1:]) if rows else None


def move_place(con: DuckDBPyConnection, key: str, place: Place) -> None:
    """Store how far a journal was read."""
    values = [key, *(getattr(place, name) for name in _COLUMNS)]
    con.execute(
        f"INSERT INTO journal_offsets (path, {', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(values))}) "
        f"ON CONFLICT (path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}", values)


def follow_journal(con: DuckDBPyConnection, store: Path, old: Path, new: Path) -> None:
    """Give a journal that was moved the place that it had."""
    key, key_now = key_of(store, old), key_of(store, new)
    if place := place_of(con, key):
        move_place(con, key_now, place)
        con.execute("DELETE FROM journal_offsets WHERE path = ?", [key])
        remember(store, {key_now: place.read_bytes}, gone=key)


def tail_of(path: Path, end: int, newest: bytes = b"") -> str:
    """A fingerprint of what the journal holds just before `end`. newest: the last bytes of that; few of them are not
    enough."""
    last = newest[-TAIL_BYTES:] if len(newest) >= TAIL_BYTES else bytes_before(path, end, TAIL_BYTES)
    return hashlib.blake2b(last, digest_size=16).hexdigest()


def start_of(place: Place | None, path: Path) -> int:
    """Where to go on: 0 when another file took the journal's place."""
    return place.read_bytes if place and tail_of(path, place.read_bytes) == place.tail else 0


def _memory(store: Path) -> Path:
    return store.with_name(store.name + ".offsets.json")


def remembered(store: Path) -> dict[str, int]:
    """How far the store has once read each journal."""
    try:
        data = json.loads(_memory(store).read_text())
        return {str(key): int(value) for key, value in data.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def remember(store: Path, ends: Mapping[str, int], gone: str = "") -> None:
    """Not synced: it only tells lost rows from rows that were never there. The open session keeps others away. gone:
    the key of a journal that is not there any more."""
    partial = _memory(store).with_suffix(".partial")
    with contextlib.suppress(OSError):
        partial.write_text(json.dumps({key: end for key, end in {**remembered(store), **ends}.items() if key != gone}))
        os.replace(partial, _memory(store))
