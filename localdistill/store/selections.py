"""Selections and lineage: which traces a name stands for, and which traces each row of a dataset came from. Long lists
are written in pieces; the row that makes them visible comes last. What is saved is a line of a journal first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import UsageError, nearest
from localdistill.core.records import content_id
from localdistill.store.rows import moment, restored, storable, table
from localdistill.store.session import Sessions, first_row
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


Line = dict[str, Any]


def identity_of(name: str, definition: Mapping[str, Any], kept: Sequence[str]) -> str:
    """The id of a list under a name, and of what made it."""
    return content_id("selection", name, dict(definition), list(kept))


def selected_lines(identity: str, kept: Sequence[str]) -> Iterator[Line]:
    """A list of traces as lines of a journal, in pieces."""
    for start in range(0, max(1, len(kept)), BORDERS.list_rows):
        yield {"kind": "selected", "id": identity, "position": start, "kept": kept[start:start + BORDERS.list_rows]}


def put_selected(con: DuckDBPyConnection, line: Line) -> None:
    """Store a piece of a list, and let nothing stand behind it."""
    rows = [{"selection_id": line["id"], "position": n, "trace_id": i}
            for n, i in enumerate(line["kept"], start=line["position"])]
    _put_piece(con, "selection_traces", "selection_id", line["id"], line["position"], rows)


def selection_line(identity: str, name: str, definition: Mapping[str, Any], removed: Mapping[str, int]) -> Line:
    """What makes a list visible, or the newest of its name."""
    return {"kind": "selection", "id": identity, "name": name, "definition": dict(definition), "removed": dict(removed)}


def put_selection(con: DuckDBPyConnection, line: Line) -> None:
    """Let a list be the newest of its name."""
    values = [line["id"], storable(line["name"]), storable(json.dumps(line["definition"], ensure_ascii=False)),
              json.dumps(line["removed"]), moment(line["at"])]
    con.execute(
        "INSERT INTO selections (seq, id, name, definition, removed, created_at) "
        "VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM selections), ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, removed = excluded.removed",
        values,
    )


def is_saved(con: DuckDBPyConnection, identity: str) -> bool:
    """Whether this list is visible."""
    return first_row(con, "SELECT 1 FROM selections WHERE id = ?", [identity]) is not None


def is_newest(con: DuckDBPyConnection, identity: str, name: str, removed: Mapping[str, int]) -> bool:
    """Whether this list is the newest of its name, with these counts."""
    row = first_row(con, "SELECT id, removed FROM selections WHERE name = ? ORDER BY seq DESC LIMIT 1",
                    [storable(name)])
    return row is not None and (row[0], json.loads(row[1])) == (identity, dict(removed))


def mapping_of(cell: str) -> dict[str, Any]:
    """What a column of JSON holds."""
    found: dict[str, Any] = json.loads(restored(cell))
    return found


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
    ids = _list(sessions, "selection_traces", "trace_id", "selection_id", found.id)
    return dataclasses.replace(found, trace_ids=tuple(row[0] for row in ids))


def lineage_lines(dataset: str, rows: Sequence[tuple[str, str]]) -> Iterator[Line]:
    """(row id, trace id) of every row of a dataset, in order, as lines of a journal, in pieces."""
    for start in range(0, max(1, len(rows)), BORDERS.list_rows):
        piece = [list(row) for row in rows[start:start + BORDERS.list_rows]]
        yield {"kind": "lineage", "dataset": dataset, "position": start, "rows": piece}


def put_lineage(con: DuckDBPyConnection, line: Line) -> None:
    """Store a piece of a dataset's rows, and let nothing stand behind it."""
    rows = [{"dataset": line["dataset"], "position": n, "row_id": row, "trace_id": trace}
            for n, (row, trace) in enumerate(line["rows"], start=line["position"])]
    _put_piece(con, "examples", "dataset", line["dataset"], line["position"], rows)


def lineage(sessions: Sessions, dataset: str) -> list[tuple[str, str]]:
    """(row id, trace id) of every row of a dataset, in order."""
    rows = _list(sessions, "examples", "row_id, trace_id", "dataset", dataset)
    return [(row, trace) for row, trace in rows]


def datasets_of(sessions: Sessions, trace_id: str) -> list[str]:
    """Digests of the datasets that were made of a trace."""

    def work(con: DuckDBPyConnection) -> list[str]:
        rows = con.execute("SELECT DISTINCT dataset FROM examples WHERE trace_id = ? ORDER BY 1", [trace_id]).fetchall()
        return [row[0] for row in rows]

    return sessions.run(work)


def _list(sessions: Sessions, name: str, columns: str, key_column: str, key: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a list in order, a piece in each session. Places may be empty: what stood there was forgotten."""
    last = sessions.run(lambda con: con.execute(
        f"SELECT coalesce(max(position), -1) FROM {name} WHERE {key_column} = ?", [key]).fetchall())[0][0]
    for start in range(0, last + 1, BORDERS.list_rows):

        def work(con: DuckDBPyConnection, start: int = start) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = con.execute(
                f"SELECT {columns} FROM {name} WHERE {key_column} = ? AND position BETWEEN ? AND ? ORDER BY position",
                [key, start, start + BORDERS.list_rows - 1]
            ).fetchall()
            return rows

        yield from sessions.run(work)


def _put_piece(con: DuckDBPyConnection, name: str, key_column: str, key: str, start: int,
               rows: Sequence[Mapping[str, Any]]) -> None:
    con.execute(f"DELETE FROM {name} WHERE {key_column} = ? AND position >= ?", [key, start])
    if rows:
        types = {column: "int64" if column == "position" else "string" for column in rows[0]}
        columns = ", ".join(types)
        with incoming(con, table(rows, types)):
            con.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")
