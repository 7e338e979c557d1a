"""Two stores that should hold the same, compared: all that is in their tables is read, so what cannot be read is found
too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.store.reading import sweep
from localdistill.store.rows import FACT_COLUMNS, PROMPT_TABLE, TRACE_TABLE
from localdistill.store.session import Sessions
from localdistill.store.writing import REPLY_TYPES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class _Table:
    """A table, by what a row is known by and what else counts of it."""

    name: str
    key: Sequence[str]
    columns: Sequence[str]
    is_numbered: bool = False
    """It has the column `seq`, and large texts."""


_TABLES: Mapping[str, _Table] = {
    "prompts": _Table("prompts", ("id",), tuple(PROMPT_TABLE), True),
    "traces": _Table("traces", ("id",), tuple(TRACE_TABLE), True),
    "facts": _Table("facts", ("subject_id", "member", "version", "variant"), FACT_COLUMNS),
    "replies to members": _Table("replies", ("id", "attempt"), tuple(REPLY_TYPES)),
    "selections": _Table("selections", ("id",), ("name", "definition", "removed")),
    "traces of selections": _Table("selection_traces", ("selection_id", "position"), ("trace_id",)),
    "rows of datasets": _Table("examples", ("dataset", "position"), ("row_id", "trace_id")),
}


@dataclass(frozen=True)
class KindCheck:
    """One kind of records, counted in both stores."""

    kind: str
    journalled: int
    """In the store that was made of the journals."""
    stored: int
    missing: int
    """Of those in the journals: not stored."""
    different: int
    """Stored otherwise than the journals say."""
    only_stored: int
    """Stored, and in no journal, without what was imported so on purpose."""


def compare(of_journals: Sessions, stored: Sessions) -> Iterator[KindCheck]:
    """The kinds of records, each with what differs. StoreError for what cannot be read."""
    known = "SELECT hash(id) FROM uncopied"
    uncopied = {row[0] for row in stored.run(lambda con: con.execute(known).fetchall())}
    for kind, table in _TABLES.items():
        first, second = (_rows(sessions, table) for sessions in (of_journals, stored))
        yield KindCheck(kind, len(first), len(second), len(first.keys() - second.keys()),
                        sum(second.get(key, content) != content for key, content in first.items()),
                        len(second.keys() - first.keys() - (uncopied if table.is_numbered else set())))


def _rows(sessions: Sessions, table: _Table) -> dict[int, int]:
    """The content of every row by its key, both as hashes."""
    select = f"SELECT hash({', '.join(table.key)}), hash({', '.join(table.columns)}) FROM {table.name}"
    if not table.is_numbered:
        return dict(sessions.run(lambda con: con.execute(select).fetchall()))

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = con.execute(f"{select} WHERE seq BETWEEN ? AND ?", [low, high]).fetchall()
        return rows

    return dict(sweep(sessions, "traces" if table.name == "traces" else "prompts", query, BORDERS.span_rows))
