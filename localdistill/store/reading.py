"""Bulk reading in short sessions: windows over the stored order, and lookups of many ids. A session takes pieces until
its time is over, closes, and only then are the rows handed on, so a slow consumer never holds the file."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError, UsageError, nearest
from localdistill.store.rows import storable
from localdistill.store.session import Sessions
from localdistill.store.writing import TableName, incoming_ids, last_seq, seqs_of

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

T = TypeVar("T")
Query = Callable[["DuckDBPyConnection", int, int, "list[int] | None"], list[T]]
"""Rows of the window low..high of `seq`, in that order; only those in the list when there is one."""

LOST_HINT = "`localdistill traces` says what is missing here and what brings it back"
_SLOW_S, _FAST_S = 0.08, 0.03
_FEWEST = 16
"""The smallest window of a sweep is this part of the largest, at least."""


def sweep(sessions: Sessions, name: TableName, query: Query[T], most_rows: int | None = None) -> Iterator[T]:
    """What `query` finds in every window of the table, in stored order. Rows stored meanwhile are left out.
    `most_rows` bounds a window where its rows are large."""
    last = sessions.run(lambda con: last_seq(con, name))
    most = BORDERS.most_rows if most_rows is None else most_rows
    low, rows = 1, min(BORDERS.first_rows, most)
    while low <= last:

        def work(con: DuckDBPyConnection, low: int = low, rows: int = rows) -> tuple[list[T], int, int]:
            found: list[T] = []
            began = time.monotonic()
            now = began
            while True:
                found += query(con, low, min(low + rows - 1, last), None)
                low += rows
                started, now = now, time.monotonic()
                rows = paced(rows, now - started, most)
                if low > last or now - began >= BORDERS.session_s:
                    return found, low, rows

        found, low, rows = sessions.run(work)
        yield from found


def paced(rows: int, took_s: float, most_rows: int) -> int:
    """The size of the next window after one of `rows` took so long. Where rows are short, `most_rows` is large, and no
    window is small: on a busy machine each takes long whatever its size, and many small ones take it for good."""
    if took_s > _SLOW_S:
        return max(BORDERS.fewest_rows, most_rows // _FEWEST, rows // 2)
    return min(2 * rows, most_rows) if took_s < _FAST_S else rows


def seqs(sessions: Sessions, name: TableName, ids: Sequence[str]) -> dict[str, int]:
    """The place in the stored order of each id that is stored."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), BORDERS.lookup_ids):
        chunk = ids[start : start + BORDERS.lookup_ids]
        found |= sessions.run(partial(seqs_of, name=name, ids=chunk))
    return found


def known(sessions: Sessions, name: TableName, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that are stored. Asks for the others: whoever resumes has most, and few strings come back."""
    found = set(ids)
    for start in range(0, len(ids), BORDERS.lookup_ids):
        chunk = ids[start : start + BORDERS.lookup_ids]

        def work(con: DuckDBPyConnection, chunk: Sequence[str] = chunk) -> list[tuple[str]]:
            with incoming_ids(con, chunk):
                missing: list[tuple[str]] = con.execute(
                    f"SELECT id FROM incoming ANTI JOIN {name} USING (id)").fetchall()
                return missing

        found.difference_update(row[0] for row in sessions.run(work))
    return found


def stored_seqs(sessions: Sessions, name: TableName, ids: Sequence[str]) -> array[int]:
    """The place of every id; StoreError names the first that is not stored. Where they are many, all ids that are
    stored are read once, instead of being searched again for each part."""
    if len(ids) <= BORDERS.lookup_ids:
        known = seqs(sessions, name, ids)
        places = array("q", (known.get(i, 0) for i in ids))
    else:
        places = _swept(sessions, name, ids)
    if missing := places.count(0):  # the first place is 1
        raise StoreError(f"{missing} of {len(ids)} {name} are not in this store, the first is {ids[places.index(0)]}",
                         LOST_HINT)
    return places


def _swept(sessions: Sessions, name: TableName, ids: Sequence[str]) -> array[int]:
    """The place of every id; 0 for those that are not stored."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = list(sweep(sessions, name, arrow_rows(f"SELECT seq, id FROM {name} WHERE seq BETWEEN $1 AND $2")))
    if not tables:
        return array("q", bytes(8 * len(ids)))
    stored = pa.concat_tables(tables)
    found = pc.index_in(pa.array(map(storable, ids), pa.string()), value_set=stored.column("id").combine_chunks())
    return integers(pa.table({"seq": pc.fill_null(stored.column("seq").take(found), 0)}))


def arrow_rows(sql: str) -> Query[pa.Table]:
    """What a query of the rows from $1 to $2 gives, as Arrow tables; windows without any give none."""

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[pa.Table]:
        found = con.sql(sql, params=[low, high]).to_arrow_table()
        return [found] if found.num_rows else []

    return query


def column_of(places: array[int]) -> pa.Array:
    """Machine integers as an Arrow column, which shares their memory."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)])


def integers(table: pa.Table) -> array[int]:
    """The column `seq` as machine integers, without a Python object per row."""
    import pyarrow as pa

    found = array("q")
    for chunk in table.column("seq").chunks:
        whole = pa.concat_arrays([chunk]) if chunk.offset else chunk
        if len(whole):
            found.frombytes(memoryview(whole.buffers()[1])[: 8 * len(whole)])
    return found


def pick(sessions: Sessions, wanted: Sequence[int], query: Query[T]) -> list[T]:
    """What `query` finds among the rows `wanted`, in stored order."""
    groups = list(_neighbours(sorted(set(wanted))))
    found: list[T] = []
    done = 0
    while done < len(groups):

        def work(con: DuckDBPyConnection, done: int = done) -> tuple[list[T], int]:
            rows: list[T] = []
            began = time.monotonic()
            while True:
                group = groups[done]
                whole = group[-1] - group[0] + 1 == len(group)
                rows += query(con, group[0], group[-1], None if whole else group)
                done += 1
                if done == len(groups) or time.monotonic() - began >= BORDERS.session_s:
                    return rows, done

        rows, done = sessions.run(work)
        found += rows
    return found


def _neighbours(ordered: Sequence[int]) -> Iterator[list[int]]:
    group: list[int] = []
    for seq in ordered:
        if group and seq - group[0] >= BORDERS.span_rows:
            yield group
            group = []
        group.append(seq)
    if group:
        yield group


def rows_query(name: TableName, columns: Sequence[str]) -> Query[tuple[Any, ...]]:
    """`(seq, *columns)` of a table."""

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[tuple[Any, ...]]:
        sql = f"SELECT seq, {', '.join(columns)} FROM {name} WHERE seq BETWEEN $low AND $high"
        values: dict[str, Any] = {"low": low, "high": high}
        if among is not None:
            sql += " AND seq IN (SELECT unnest($among::BIGINT[]))"
            values["among"] = among
        rows: list[tuple[Any, ...]] = con.execute(sql + " ORDER BY seq", values).fetchall()
        return rows

    return query


def records(
    sessions: Sessions, name: TableName, columns: Sequence[str], build: Callable[[Sequence[Any]], T],
    ids: Sequence[str] | None,
) -> Iterator[T]:
    """Records in stored order, or those of `ids` in that order."""
    query = rows_query(name, columns)
    if ids is None:
        for row in sweep(sessions, name, query, BORDERS.span_rows):
            yield build(row[1:])
        return
    places = stored_seqs(sessions, name, ids)
    for start in range(0, len(places), BORDERS.chunk_ids):
        chunk = places[start : start + BORDERS.chunk_ids]
        found = {row[0]: row[1:] for row in pick(sessions, chunk, query)}
        for seq in chunk:
            yield build(found[seq])


def checked_condition(where: str) -> str:
    """`where` in parentheses, ready for a query; UsageError when it is more than one expression. What closes the
    parenthesis around it to open another cannot stand in brackets as well."""
    import duckdb

    try:
        forms = [duckdb.extract_statements(f"SELECT {a}\n{where}\n{b}") for a, b in ("()", "[]")]
    except duckdb.Error as error:
        raise UsageError(f"the condition '{where}' is no SQL expression: {_first(error)}", _WHERE_HINT) from None
    if any(len(statements) != 1 for statements in forms):
        raise UsageError(f"the condition '{where}' is more than one expression", _WHERE_HINT)
    return f"(\n{where}\n)"


_WHERE_HINT = ("a condition looks like: score = 1 AND completion_tokens < 500; what else is known of a prompt is a "
               "label: labels['kind'] = 'story'")


_NO_COLUMN = re.compile(r'Referenced column "(.+?)" not found|does not have a column named "(.+?)"')


def refused(where: str, error: Exception, known: Sequence[str] = ()) -> UsageError:
    """The error for a condition that the database does not take; `known`: the columns that it may name."""
    if known and (found := _NO_COLUMN.search(str(error))):
        name = found[1] or found[2]
        return UsageError(f"the condition '{where}' names a column '{name}', which there is not"
                          f"{nearest(name, known)}", f"columns: {', '.join(known)}")
    return UsageError(f"the condition '{where}' cannot be used: {_first(error)}", _WHERE_HINT)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]


def window_values(con: DuckDBPyConnection, sql: str, low: int, high: int, params: Mapping[str, Any],
                  among: list[int] | None) -> dict[str, Any]:
    """Named parameters of a windowed query of the view: the window, and the range of its traces' prompts where the
    query looks at those."""
    values: dict[str, Any] = {"low": low, "high": high, **params}
    if among is not None:
        values["among"] = among
    if "$first" in sql:
        [(values["first"], values["last"])] = con.execute(
            "SELECT coalesce(min(prompt_seq), 0), coalesce(max(prompt_seq), 0) FROM traces WHERE seq BETWEEN ? AND ?",
            [low, high],
        ).fetchall()
    return values
