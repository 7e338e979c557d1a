"""Taking in what journals hold and the store does not: the normal way of replies into the store, and what heals it
after its newest rows were lost.

How far a journal was read is stored in the same transaction as its rows, so both are lost together or not at all. A
small file beside the store remembers the same places: where it is ahead, the store lost rows that it once had, and the
user is told how many came back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill import journal
from localdistill.store.borders import BORDERS
from localdistill.store.rows import grade_from_json, grade_row, size_of, trace_from_json, trace_row
from localdistill.store.session import Sessions, first_row, transaction
from localdistill.store.writing import insert_traces, upsert_grades

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


@dataclass
class _Batch:
    """Part of a journal, ready to be stored."""

    traces: list[dict[str, Any]]
    grades: list[dict[str, Any]]
    ends: dict[str, int]
    """Offset behind the record of each trace."""
    end: int


def catch_up(sessions: Sessions, journals: Iterable[Path]) -> CatchUp:
    """Take in the rest of every journal that is longer than the store knows."""
    sums = Counter[str]()
    for path in journals:
        if not path.exists():
            continue
        key = _key(sessions.path, path)
        start = _start(sessions, key, path)
        remembered = _remembered(sessions.path).get(key, 0) if start < path.stat().st_size else 0
        reading = journal.Reading()
        for batch in _batches(path, start, reading):
            tail = _tail(path, batch.end)
            new = sessions.run(partial(_store, store=sessions.path, key=key, batch=batch, tail=tail))
            sums["rows"] += len(new)
            sums["healed"] += sum(batch.ends[i] <= remembered for i in new)
        sums["damaged"] += reading.damaged_lines
    return CatchUp(sums["rows"], sums["healed"], sums["damaged"])


def _key(store: Path, path: Path) -> str:
    """The journal's path below the workspace, so that a workspace can move; else its whole path."""
    path, root = path.resolve(), store.resolve().parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _start(sessions: Sessions, key: str, path: Path) -> int:
    """How far the journal was read: 0 when another file took its place."""

    def work(con: DuckDBPyConnection) -> tuple[Any, ...] | None:
        return first_row(con, "SELECT read_bytes, tail FROM journal_offsets WHERE path = ?", [key])

    row = sessions.run(work)
    return int(row[0]) if row and _tail(path, row[0]) == row[1] else 0


def _tail(path: Path, end: int) -> str:
    """A fingerprint of what the journal holds just before `end`: another file has another one."""
    start = max(0, end - TAIL_BYTES)
    with open(path, "rb") as handle:
        handle.seek(start)
        return hashlib.blake2b(handle.read(end - start), digest_size=16).hexdigest()


def _batches(path: Path, start: int, reading: journal.Reading) -> Iterator[_Batch]:
    batch, size, taken = _Batch([], [], {}, start), 0, start
    for record, end in journal.read(path, start, reading):
        batch.end = end
        if "trace" in record:
            try:
                trace = trace_from_json(record["trace"])
                grades = [grade_row(grade_from_json(grade, trace.id)) for grade in record.get("grades", ())]
                row = trace_row(trace)
            except (TypeError, KeyError, ValueError, AttributeError):
                reading.damaged_lines += 1
                continue
            batch.traces.append(row)
            batch.grades += grades
            batch.ends[trace.id] = end
            size += size_of(row)
        if len(batch.traces) >= BORDERS.batch_rows or size >= BORDERS.batch_bytes:
            yield batch
            batch, size, taken = _Batch([], [], {}, end), 0, end
    if batch.end > taken:
        yield batch


def _store(con: DuckDBPyConnection, store: Path, key: str, batch: _Batch, tail: str) -> list[str]:
    """Store a batch and the place behind it; returns the ids that were new."""
    with transaction(con):
        new = insert_traces(con, batch.traces)
        if batch.grades:
            upsert_grades(con, batch.grades)
        con.execute(
            "INSERT INTO journal_offsets (path, read_bytes, tail) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET read_bytes = excluded.read_bytes, tail = excluded.tail",
            [key, batch.end, tail],
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
    partial.write_text(json.dumps({**_remembered(store), key: end}))
    os.replace(partial, _memory(store))
