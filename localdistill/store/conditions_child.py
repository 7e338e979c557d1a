"""The child of `store.conditions`: tests one condition of a user against the rows of the store. Its own queries read
the file; the user's words only ever meet rows that were copied out, in a second database without files, extensions or
settings to change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.safety.children import JsonPipe, limit_memory, serve
from localdistill.store.batch_sizes import BORDERS
from localdistill.store.reading import checked_condition, refused, sweep
from localdistill.store.rows import table, types_of
from localdistill.store.schema import LONG_COLUMNS, VIEW, VIEW_COLUMNS
from localdistill.store.session import Sessions, shut_in
from localdistill.store.view import arrow_query, search_condition

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def main() -> None:
    """Answer the one request that comes in."""
    line = serve()
    request = next(iter(line))
    _limit(request["address_bytes"], request["cpu_s"])
    vars(BORDERS).update(request["borders"])
    try:
        for seqs in _matches(request, line):
            line.write({"seqs": seqs})
        line.write({"done": True})
    except LocalDistillError as error:
        line.write({"error": type(error).__name__, "message": error.message, "hint": error.hint})


def _limit(address_bytes: int, cpu_s: int) -> None:
    import resource

    limit_memory(address_bytes)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))


def needed_columns(where: str) -> list[str]:
    """The columns that `where` may speak of: those whose names are in it, all when it can name them otherwise."""
    words = {word.lower() for word in re.findall(r"\w+", where)}
    if words & {"columns", "trace_view"}:
        return list(VIEW_COLUMNS)
    return [name for name in VIEW_COLUMNS if name in words]


def _matches(request: dict[str, Any], line: JsonPipe) -> Iterator[list[int]]:
    """Matching `seq` numbers, window by window."""
    where = str(request["where"])
    condition = checked_condition(where)
    columns = needed_columns(where)
    holds, params = search_condition(request["search"])
    most_rows = BORDERS.span_rows if set(columns) & set(LONG_COLUMNS) or holds else BORDERS.most_rows
    sessions = Sessions(Path(request["store"]), request["wait_s"], read_only=True)
    con = shut_in(memory_limit=f"{request['memory_bytes'] >> 20}MB", temp_directory="", threads="1")
    query = arrow_query(columns, holds, params)
    line.write({"testing": 0})
    yield _test(con, no_rows(columns), condition, where)
    for rows in sweep(sessions, "traces", query, most_rows):
        line.write({"testing": rows.num_rows})
        yield _test(con, rows, condition, where)


def no_rows(columns: list[str]) -> pa.Table:
    """A table without rows, in which a condition that cannot be used is found before any row is read."""
    return table([], {"seq": "int64", **types_of({name: VIEW[name].kind for name in columns})})


def _test(con: DuckDBPyConnection, rows: pa.Table, condition: str, where: str) -> list[int]:
    """`seq` of the rows that meet the condition."""
    import duckdb

    con.register("fetched", rows)
    try:
        found = con.execute(f"SELECT seq FROM fetched AS trace_view WHERE {condition} ORDER BY seq").fetchall()
    except (duckdb.OutOfMemoryException, MemoryError):
        raise UsageError(f"the condition '{where}' needs too much memory", "ask for something smaller") from None
    except duckdb.Error as error:
        raise refused(where, error) from None
    finally:
        con.unregister("fetched")
    return [row[0] for row in found]


if __name__ == "__main__":
    main()
