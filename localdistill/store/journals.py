"""Taking in what journals hold and the store does not: the normal way of replies into the store, and what heals it
after its newest rows were lost.

How far a journal was read is stored in the same transaction as its rows, so both are lost together or not at all. A
small file beside the store remembers the same places: where it is ahead, the store lost rows that it once had, and the
user is told how many came back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.safety import journal
from localdistill.store.replies import reply_row
from localdistill.store.rows import fact_from_json, fact_row, facts_beside, size_of, trace_from_json, trace_row
from localdistill.store.session import Sessions, first_row, transaction
from localdistill.store.writing import insert_replies, insert_traces, upsert_facts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class CatchUp:
    """What a catch-up did."""

    rows: int = 0
    """New traces taken in."""
    healed: int = 0
    """Those among them that the store held before and had lost."""
    damaged: int = 0
    """Journal lines that cannot be read; they stay in the journal."""
    unread: tuple[str, ...] = ()
    """Journals that could not be opened or read to their end, each with the reason."""


@dataclass(frozen=True)
class Lack:
    """Why a journal may hold replies that are not in the store."""

    path: Path
    untaken: int
    """Lines that were not taken in."""
    damaged: int
    """Lines that were read and are damaged."""
    error: str
    """Why it cannot be read; empty when it can."""

    def __str__(self) -> str:
        if self.error:
            return f"its journal cannot be read ({self.error})"
        if self.untaken:
            return f"{self.untaken:,} lines of its journal are not in the store"
        return f"{self.damaged:,} lines of its journal are damaged"


@dataclass
class _Batch:
    """Part of a journal, ready to be stored."""

    traces: list[dict[str, Any]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    """To questions of members."""
    ends: dict[str, int] = field(default_factory=dict)
    """Offset behind the record of each trace."""
    end: int = 0
    damaged: int = 0
    size: int = 0
    """Bytes of text, about."""

    def take(self, record: dict[str, Any], end: int) -> None:
        """Add one line. Raises what reading a line that is none of ours raises."""
        facts = [fact_from_json(data) for data in record.get("facts", ())] if "trace" not in record else []
        if "trace" in record:
            trace = trace_from_json(record["trace"])
            facts, row = facts_beside(record, trace), trace_row(trace)
            self.traces.append(row)
            self.ends[trace.id] = end
            self.size += size_of(row)
        elif "reply" in record:
            row = reply_row(record)
            self.replies.append(row)
            self.size += size_of(row)
        self.facts += map(fact_row, facts)

    @property
    def is_full(self) -> bool:
        """One session can write it."""
        rows = max(len(self.traces), len(self.facts), len(self.replies))
        return rows >= BORDERS.batch_rows or self.size >= BORDERS.batch_bytes


_DAMAGED = (TypeError, KeyError, ValueError, AttributeError, RecursionError)
"""What a line raises that holds something else than it should."""


@dataclass(frozen=True)
class _Place:
    """How far the store has read one journal."""

    read_bytes: int
    tail: str
    damaged: int = 0
    """Lines before it that could not be read."""


def catch_up(sessions: Sessions, journals: Iterable[Path]) -> CatchUp:
    """Take in the rest of every journal that is longer than the store knows, or that is another file than it was.
    Looks at nothing but the size of the others."""
    sizes: dict[Path, int] = {}
    unread: list[str] = []
    for path in journals:
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            unread.append(f"{path}: {error.strerror}")
    places = _places(sessions) if any(sizes.values()) else {}
    sums = Counter[str]()
    for path, size in sizes.items():
        key = _key(sessions.path, path)
        place = places.get(key)
        if size == (place.read_bytes if place else 0):
            continue
        try:
            _take_in(sessions, path, key, place, sums)
        except OSError as error:
            unread.append(f"{path}: {error.strerror}")
    return CatchUp(sums["rows"], sums["healed"], sums["damaged"], tuple(unread))


def lacking(sessions: Sessions, journals: Iterable[Path]) -> list[Lack]:
    """What the journals hold and the store does not. Reads only those that are longer than the store knows."""
    places, found = _places(sessions) if sessions.path.exists() else {}, []
    for path in journals:
        place = places.get(_key(sessions.path, path), _Place(0, ""))
        reading = journal.Reading()
        untaken, error = 0, ""
        try:
            if path.stat().st_size != place.read_bytes:
                untaken = sum(1 for _ in journal.read(path, _start(place, path), reading)) + reading.damaged_lines
        except OSError as problem:
            error = problem.strerror or str(problem)
        if untaken or error or place.damaged:
            found.append(Lack(path, untaken, place.damaged, error))
    return found


def _take_in(sessions: Sessions, path: Path, key: str, place: _Place | None, sums: Counter[str]) -> None:
    """Store the rest of one journal. Where another process takes it in meanwhile, go on behind what that one stored."""
    while True:
        start = _start(place, path)
        remembered = _remembered(sessions.path).get(key, 0)
        for batch in _batches(path, start):
            damaged = batch.damaged + (place.damaged if place and start else 0)
            after = _Place(batch.end, _tail(path, batch.end), damaged)
            new = sessions.run(partial(_store, store=sessions.path, key=key, batch=batch, before=place, after=after))
            if new is None:
                break
            sums["rows"] += len(new)
            sums["healed"] += sum(batch.ends[i] <= remembered for i in new)
            sums["damaged"] += batch.damaged
            place = after
            start = batch.end
        else:
            return
        place = _places(sessions).get(key)


def _key(store: Path, path: Path) -> str:
    """The journal's path below the workspace, so that a workspace can move; else its whole path."""
    path, root = path.resolve(), store.resolve().parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _places(sessions: Sessions) -> dict[str, _Place]:
    def work(con: DuckDBPyConnection) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = con.execute(_PLACES).fetchall()
        return rows

    return {key: _Place(*row) for key, *row in sessions.run(work)}


def _start(place: _Place | None, path: Path) -> int:
    """Where to go on: 0 when another file took the journal's place."""
    return place.read_bytes if place and _tail(path, place.read_bytes) == place.tail else 0


def _tail(path: Path, end: int) -> str:
    """A fingerprint of what the journal holds just before `end`: another file has another one."""
    start = max(0, end - TAIL_BYTES)
    with open(path, "rb") as handle:
        handle.seek(start)
        return hashlib.blake2b(handle.read(end - start), digest_size=16).hexdigest()


def _batches(path: Path, start: int) -> Iterator[_Batch]:
    batch, taken, counted, reading = _Batch(end=start), start, 0, journal.Reading(end=start)
    for record, end in journal.read(path, start, reading):
        batch.end = end
        try:
            batch.take(record, end)
        except _DAMAGED:
            reading.damaged_lines += 1
            continue
        if batch.is_full:
            batch.damaged, counted = reading.damaged_lines - counted, reading.damaged_lines
            yield batch
            batch, taken = _Batch(end=end), end
    batch.end, batch.damaged = reading.end, reading.damaged_lines - counted
    if batch.end > taken:
        yield batch


_PLACES = "SELECT path, read_bytes, tail, coalesce(damaged, 0) FROM journal_offsets"


def _store(
    con: DuckDBPyConnection, store: Path, key: str, batch: _Batch, before: _Place | None, after: _Place
) -> list[str] | None:
    """Store a batch and the place behind it; returns the ids that were new. Stores nothing and returns None when the
    journal was read to another place than `before` since that was looked up."""
    row = first_row(con, f"{_PLACES} WHERE path = ?", [key])
    if (_Place(*row[1:]) if row else None) != before:
        return None
    with transaction(con):
        new = insert_traces(con, batch.traces)
        if batch.replies:
            insert_replies(con, batch.replies)
        if batch.facts:  # those of a trace whose line is damaged are of no use
            upsert_facts(con, batch.facts, skip_unknown=True)
        con.execute(
            "INSERT INTO journal_offsets (path, read_bytes, tail, damaged) VALUES (?, ?, ?, ?) ON CONFLICT (path) "
            "DO UPDATE SET read_bytes = excluded.read_bytes, tail = excluded.tail, damaged = excluded.damaged",
            [key, after.read_bytes, after.tail, after.damaged],
        )
    _remember(store, key, batch.end)
    return new


def _memory(store: Path) -> Path:
    return store.with_name(store.name + ".offsets.json")


def _remembered(store: Path) -> dict[str, int]:
    try:
        data = json.loads(_memory(store).read_text())
        return {str(key): int(value) for key, value in data.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(store: Path, key: str, end: int) -> None:
    """Not synced: it only tells lost rows from rows that were never there. The open session keeps others away."""
    partial = _memory(store).with_suffix(".partial")
    with contextlib.suppress(OSError):
        partial.write_text(json.dumps({**_remembered(store), key: end}))
        os.replace(partial, _memory(store))
