"""Questions to `trace_view`: ids that meet a condition, Arrow batches for filters, listings and text search. All are
windowed, so none holds the file for long, whatever the condition costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.errors import UsageError, nearest
from localdistill.store.reading import (
    CHUNK_IDS,
    SPAN_ROWS,
    Query,
    checked_condition,
    pick,
    refused,
    stored_seqs,
    sweep,
    window_values,
)  # fmt: skip
from localdistill.store.rows import restored, storable
from localdistill.store.schema import VIEW_COLUMNS, view_sql
from localdistill.store.session import Sessions

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

LISTED = tuple(name for name in VIEW_COLUMNS if name not in ("reasoning", "answer", "original"))
SEARCHED = ("question", "reasoning", "answer")
_AROUND = 60


@dataclass(frozen=True)
class SearchHit:
    """One trace that holds the text: where it was found first, and the words around it."""

    trace_id: str
    field: str
    excerpt: str


def check_columns(columns: Sequence[str]) -> None:
    """UsageError for a column that the view does not have."""
    for name in columns:
        if name not in VIEW_COLUMNS:
            raise UsageError(
                f"trace_view has no column '{name}'{nearest(name, VIEW_COLUMNS)}", f"known: {', '.join(VIEW_COLUMNS)}"
            )


def _sql(select: str, where: str | None, among: list[int] | None) -> str:
    sql = f"SELECT {select} FROM ({view_sql(windowed=True)}) AS trace_view WHERE true"
    if where:
        sql += f" AND {checked_condition(where)}"
    if among is not None:
        sql += " AND seq IN (SELECT unnest($among::BIGINT[]))"
    return sql + " ORDER BY seq"


def view_query(select: str, where: str | None, params: Mapping[str, Any] | None = None) -> Query[tuple[Any, ...]]:
    """Rows of the view that meet `where`; UsageError when the database refuses it."""

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[tuple[Any, ...]]:
        import duckdb

        try:
            rows: list[tuple[Any, ...]] = con.execute(
                _sql(select, where, among), window_values(low, high, params or {}, among)
            ).fetchall()
            return rows
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise refused(where or select, error) from None

    return query


def matching_ids(
    sessions: Sessions, where: str | None, params: Mapping[str, Any] | None, ids: Sequence[str] | None
) -> Iterator[str]:
    """Ids of traces that meet `where`: in stored order, or in the order of `ids`."""
    query = view_query("seq, trace_id", where, params)
    if ids is None:
        yield from (row[1] for row in sweep(sessions, "traces", query))
        return
    kept = {row[1] for row in pick(sessions, stored_seqs(sessions, "traces", ids), query)}
    yield from (i for i in ids if i in kept)


def arrow_batches(
    sessions: Sessions, columns: Sequence[str], where: str | None, ids: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Record batches with `columns`: in stored order, or in the order of `ids`."""
    check_columns(columns)
    query = _arrow_query(columns, where)
    if ids is None:
        for found in sweep(sessions, "traces", query, SPAN_ROWS):
            yield from found.select(list(columns)).combine_chunks().to_batches()
        return
    places = stored_seqs(sessions, "traces", ids)
    for start in range(0, len(places), CHUNK_IDS):
        chunk = places[start : start + CHUNK_IDS]
        yield from _ordered(pick(sessions, chunk, query), chunk, columns)


def _arrow_query(columns: Sequence[str], where: str | None) -> Query[pa.Table]:
    select = ", ".join(["seq", *dict.fromkeys(columns)])

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[pa.Table]:
        import duckdb

        try:
            found = con.sql(_sql(select, where, among), params=window_values(low, high, {}, among)).to_arrow_table()
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise refused(where or select, error) from None
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
    conditions = [f"(\n{where}\n)"] if where else []
    params = {}
    if search:
        conditions.append("(" + " OR ".join(f"contains(lower({name}), lower($text))" for name in SEARCHED) + ")")
        params["text"] = storable(search)
    if where:
        checked_condition(where)
    query = view_query(", ".join(LISTED), " AND ".join(conditions) or None, params)
    rows: list[dict[str, Any]] = []
    for row in sweep(sessions, "traces", query, SPAN_ROWS):
        if len(rows) == limit:
            break
        rows.append({name: _plain(cell) for name, cell in zip(LISTED, row, strict=True)})
    return rows


def _plain(cell: Any) -> Any:
    if isinstance(cell, str):
        return restored(cell)
    return cell.isoformat() if hasattr(cell, "isoformat") else cell


def hits(sessions: Sessions, text: str) -> Iterator[SearchHit]:
    """Traces that hold `text` in any case, in stored order, as they are found."""
    pieces = [
        f"WHEN contains(lower({name}), lower($text)) THEN ['{name}', {name}, "
        f"instr(lower({name}), lower($text))::VARCHAR]"
        for name in SEARCHED
    ]
    select = f"trace_id, CASE {' '.join(pieces)} END AS found"
    where = " OR ".join(f"contains(lower({name}), lower($text))" for name in SEARCHED)
    for trace_id, (field, whole, place) in sweep(
        sessions, "traces", view_query(select, where, {"text": storable(text)}), SPAN_ROWS
    ):
        start = max(0, int(place) - 1 - _AROUND)
        yield SearchHit(trace_id, field, restored(whole[start : int(place) - 1 + len(text) + _AROUND]))
