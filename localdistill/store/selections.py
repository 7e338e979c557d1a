"""Selections and lineage: which traces a name stands for, and which traces each row of a dataset came from. Long lists
are written in pieces; the row that makes them visible comes last."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import UsageError, nearest
from localdistill.core.records import content_id
from localdistill.store.rows import restored, storable, table
from localdistill.store.session import Sessions, first_row, transaction
from localdistill.store.writing import incoming

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Selection:
    """A saved list of traces."""

    id: str
    name: str
    definition: Mapping[str, Any]
    """What made it: filters with their options."""
    removed: Mapping[str, int]
    """How many traces each filter removed."""
    trace_ids: tuple[str, ...]


def save_selection(
    sessions: Sessions, name: str, definition: Mapping[str, Any], kept: Sequence[str], removed: Mapping[str, int]
) -> str:
    """Save a list under a name and return its id. Saving the same again makes it the newest of its name."""
    identity = content_id("selection", name, dict(definition), list(kept))
    rows = [{"selection_id": identity, "position": n, "trace_id": i} for n, i in enumerate(kept)]
    _replace_list(sessions, "selection_traces", "selection_id", identity, rows)

    def publish(con: DuckDBPyConnection) -> None:
        values = [identity, storable(name), storable(json.dumps(dict(definition), ensure_ascii=False)),
                  json.dumps(dict(removed)), datetime.now(UTC).replace(tzinfo=None)]  # fmt: skip
        con.execute(
            "INSERT INTO selections (seq, id, name, definition, removed, created_at) "
            "VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM selections), ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, removed = excluded.removed",
            values,
        )

    sessions.run(publish)
    return identity


def selection(sessions: Sessions, name: str) -> Selection:
    """The newest selection called `name`, or the one with that id; UsageError when there is none."""

    def work(con: DuckDBPyConnection) -> Selection:
        row = first_row(
            con,
            "SELECT id, name, definition, removed FROM selections WHERE name = $name OR id = $name "
            "ORDER BY seq DESC LIMIT 1",
            {"name": storable(name)},
        )
        if row is None:
            known = [restored(r[0]) for r in con.execute("SELECT DISTINCT name FROM selections ORDER BY 1").fetchall()]
            raise UsageError(
                f"there is no selection '{name}'{nearest(name, known)}",
                f"known: {', '.join(known)}" if known else "run a recipe with a [select] section first",
            )
        return Selection(row[0], restored(row[1]), json.loads(restored(row[2])), json.loads(row[3]), ())

    found = sessions.run(work)
    ids = _list(sessions, "SELECT trace_id FROM selection_traces WHERE selection_id", found.id)
    return dataclasses.replace(found, trace_ids=tuple(row[0] for row in ids))


def save_lineage(sessions: Sessions, dataset: str, rows: Sequence[tuple[str, str]]) -> None:
    """Remember (row id, trace id) of every row of a dataset, in order."""
    values = [{"dataset": dataset, "position": n, "row_id": row, "trace_id": trace} for n, (row, trace) in
              enumerate(rows)]  # fmt: skip
    _replace_list(sessions, "examples", "dataset", dataset, values)


def lineage(sessions: Sessions, dataset: str) -> list[tuple[str, str]]:
    """(row id, trace id) of every row of a dataset, in order."""
    rows = _list(sessions, "SELECT row_id, trace_id FROM examples WHERE dataset", dataset)
    return [(row, trace) for row, trace in rows]


def datasets_of(sessions: Sessions, trace_id: str) -> list[str]:
    """Digests of the datasets that were made of a trace."""

    def work(con: DuckDBPyConnection) -> list[str]:
        rows = con.execute("SELECT DISTINCT dataset FROM examples WHERE trace_id = ? ORDER BY 1", [trace_id]).fetchall()
        return [row[0] for row in rows]

    return sessions.run(work)


def _list(sessions: Sessions, sql: str, key: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a list in order, a piece in each session. `sql` ends with the column that `key` stands in."""
    for start in count(0, BORDERS.list_rows):

        def work(con: DuckDBPyConnection, start: int = start) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = con.execute(
                f"{sql} = ? AND position BETWEEN ? AND ? ORDER BY position", [key, start, start + BORDERS.list_rows - 1]
            ).fetchall()
            return rows

        piece = sessions.run(work)
        yield from piece
        if len(piece) < BORDERS.list_rows:
            return


def _replace_list(
    sessions: Sessions, name: str, key_column: str, key: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Make `rows` the rows of `key`, the first piece in the transaction that removes what was there."""
    for start in range(0, max(1, len(rows)), BORDERS.list_rows):
        piece = rows[start : start + BORDERS.list_rows]

        def work(con: DuckDBPyConnection, start: int = start, piece: Sequence[Mapping[str, Any]] = piece) -> None:
            with transaction(con):
                con.execute(f"DELETE FROM {name} WHERE {key_column} = ? AND position >= ?", [key, start])
                if piece:
                    types = {column: "int64" if column == "position" else "string" for column in piece[0]}
                    columns = ", ".join(types)
                    with incoming(con, table(piece, types)):
                        con.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")

        sessions.run(work)
