"""Questions to `trace_view`: ids that meet a condition, Arrow batches for filters, listings and text search. All are
windowed, so none holds the file for long, whatever the condition costs."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.records import FactScope
from localdistill.store.columns import VIEW, FactView, facts_seen, view_sql
from localdistill.store.conditions import matching_seqs
from localdistill.store.reading import (
    Query,
    checked_condition,
    column_of,
    integers,
    pick,
    refused,
    rows_query,
    stored_seqs,
    sweep,
    window_values,
)  # fmt: skip
from localdistill.store.rows import MOMENT, Kind, restored, storable
from localdistill.store.session import Sessions
from localdistill.store.writing import last_seq

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

LISTED = tuple(name for name, column in VIEW.items() if column.is_listed)
SEARCHED = ("question", "reasoning", "answer")
_AROUND = 60
_MOST = 4
"""To read the whole store takes less time than to read every such part of it, row by row."""


@dataclass(frozen=True)
class SearchHit:
    """One trace that holds the text: where it was found first, and the words around it."""

    trace_id: str
    field: str
    excerpt: str


def _sql(facts: FactView, select: str, where: str | None, among: list[int] | None) -> str:
    named = facts.named_in(f"{select} {where or ''}")
    sql = f"SELECT {select} FROM ({view_sql(facts, named=named)}) AS trace_view WHERE true"
    if where:
        sql += f" AND {checked_condition(where)}"
    if among is not None:
        sql += " AND seq IN (SELECT unnest($among::BIGINT[]))"
    return sql + " ORDER BY seq"


def view_query(select: str, where: str | None, params: Mapping[str, Any] | None = None,
               scope: FactScope | None = None) -> Query[tuple[Any, ...]]:
    """Rows of the view that meet `where`, with the facts of `scope`; UsageError when the database refuses it."""

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[tuple[Any, ...]]:
        import duckdb

        facts = facts_seen(con, scope)
        try:
            sql = _sql(facts, select, where, among)
            values = window_values(con, sql, low, high, params or {}, among)
            rows: list[tuple[Any, ...]] = con.execute(sql, values).fetchall()
            return rows
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise refused(where or select, error, facts.names) from None

    return query


def matching_ids(sessions: Sessions, where: str | None, params: Mapping[str, Any] | None,
                 scope: FactScope | None = None) -> Iterator[str]:
    """Ids of traces that meet `where`, in stored order."""
    yield from (row[1] for row in sweep(sessions, "traces", view_query("seq, trace_id", where, params, scope)))


def meeting(sessions: Sessions, places: array[int], where: str, scope: FactScope | None = None,
            from_user: bool = False) -> array[int]:
    """Those of `places` that meet `where`, in their order. from_user: a user wrote it. What is much of the store is
    found by reading all of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not places:
        return places
    found = array("q")
    if from_user:
        with contextlib.closing(matching_seqs(sessions, where, scope=scope)) as pieces:
            for piece in pieces:
                found += piece
    else:
        query = arrow_query((), where, scope=scope)
        is_most = _MOST * len(places) > sessions.run(lambda con: last_seq(con, "traces"))
        for table in sweep(sessions, "traces", query) if is_most else pick(sessions, places, query):
            found += integers(table)
    own = column_of(places)
    return integers(pa.table({"seq": own.filter(pc.is_in(own, value_set=column_of(found)))}))


def arrow_batches(
    sessions: Sessions, columns: Sequence[str], where: str | None, ids: Sequence[str] | None,
    scope: FactScope | None = None,
) -> Iterator[pa.RecordBatch]:
    """Record batches with `columns`: in stored order, or in the order of `ids`."""
    sessions.run(lambda con: facts_seen(con, scope)).check(columns)
    query = arrow_query(columns, where, scope=scope)
    if ids is None:
        for found in sweep(sessions, "traces", query, BORDERS.span_rows):
            yield from found.select(list(columns)).combine_chunks().to_batches()
        return
    places = stored_seqs(sessions, "traces", ids)
    for start in range(0, len(places), BORDERS.chunk_ids):
        chunk = places[start : start + BORDERS.chunk_ids]
        yield from _ordered(pick(sessions, chunk, query), chunk, columns)


def arrow_query(columns: Sequence[str], where: str | None, params: Mapping[str, Any] | None = None,
                scope: FactScope | None = None) -> Query[pa.Table]:
    """The rows that meet `where` as Arrow tables with `seq` and `columns`; windows without any give none."""
    select = ", ".join(["seq", *dict.fromkeys(columns)])

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[pa.Table]:
        import duckdb

        facts = facts_seen(con, scope)
        sql = _sql(facts, select, where, among)
        values = window_values(con, sql, low, high, params or {}, among)
        try:
            found = con.sql(sql, params=values).to_arrow_table()
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise refused(where or select, error, facts.names) from None
        return [found] if found.num_rows else []

    return query


def _ordered(tables: Sequence[pa.Table], order: Sequence[int], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if not tables:
        return
    whole = pa.concat_tables(tables)
    row_of = {seq: row for row, seq in enumerate(whole.column("seq").to_pylist())}
    rows = [row_of[seq] for seq in order if seq in row_of]
    yield from whole.take(rows).select(list(columns)).combine_chunks().to_batches()


def listing(sessions: Sessions, where: str | None, search: str, limit: int) -> list[dict[str, Any]]:
    """The first `limit` traces that meet `where` and hold `search`, as plain dicts of the columns `LISTED`."""
    if where:
        with contextlib.closing(matching_seqs(sessions, where, search)) as found:
            return listed(sessions, list(islice(chain.from_iterable(found), limit)))
    with contextlib.closing(_holding(sessions, search)) as held:
        return listed(sessions, list(islice(held, limit)))


def ids_where(sessions: Sessions, where: str) -> list[str]:
    """Ids of the traces that meet `where`, a condition that a user wrote, in stored order."""
    with contextlib.closing(matching_seqs(sessions, where)) as found:
        places = list(chain.from_iterable(found))
    return [row[1] for row in pick(sessions, places, rows_query("traces", ["id"]))]


def listed(sessions: Sessions, places: Sequence[int]) -> list[dict[str, Any]]:
    """The traces at these places, in that order, as plain dicts of the columns `LISTED`."""
    rows = pick(sessions, places, view_query(", ".join(("seq", *LISTED)), None))
    kinds = {name: VIEW[name].kind for name in LISTED}
    found = {row[0]: {name: _plain(kinds[name], cell) for name, cell in zip(LISTED, row[1:], strict=True)}
             for row in rows}
    return [found[place] for place in places if place in found]


def _holding(sessions: Sessions, search: str) -> Generator[int]:
    """The `seq` of each trace that holds `search`, of every one when that is empty."""
    holds, params = search_condition(search)
    most_rows = BORDERS.span_rows if holds else BORDERS.most_rows
    yield from (row[0] for row in sweep(sessions, "traces", view_query("seq", holds, params), most_rows))


def search_condition(text: str) -> tuple[str | None, dict[str, Any]]:
    """The condition that one of `SEARCHED` holds `text` in any case, with its parameters; None for an empty text."""
    if not text:
        return None, {}
    holds = " OR ".join(f"contains(lower({name}), lower($text))" for name in SEARCHED)
    return holds, {"text": storable(text)}


def _plain(kind: Kind, cell: Any) -> Any:
    if cell is None:
        return None
    return cell.isoformat() if kind is MOMENT else kind.restore(cell)


def hits(sessions: Sessions, text: str) -> Iterator[SearchHit]:
    """Traces that hold `text` in any case, in stored order, as they are found."""
    pieces = [
        f"WHEN contains(lower({name}), lower($text)) THEN ['{name}', {name}, "
        f"instr(lower({name}), lower($text))::VARCHAR]"
        for name in SEARCHED
    ]
    select = f"trace_id, CASE {' '.join(pieces)} END AS found"
    holds, params = search_condition(text)
    for trace_id, (field, whole, place) in sweep(
        sessions, "traces", view_query(select, holds, params or {"text": ""}), BORDERS.span_rows
    ):
        start = max(0, int(place) - 1 - _AROUND)
        yield SearchHit(trace_id, field, restored(whole[start : int(place) - 1 + len(text) + _AROUND]))
