"""The child of `store.conditions`: tests one condition of a user against the rows of the store. Its own queries read
the file; the user's words only ever meet rows that were copied out, in a second database without files, extensions or
settings to change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.safety.children import JsonPipe, limit_memory, serve
from localdistill.store.columns import LONG_COLUMNS, FactColumn, FactView, facts_seen
from localdistill.store.reading import checked_condition, refused, sweep
from localdistill.store.rows import table, types_of
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


def _matches(request: dict[str, Any], line: JsonPipe) -> Iterator[list[int]]:
    """Matching `seq` numbers, window by window; none where the condition is only looked at."""
    where = str(request["where"])
    condition = checked_condition(where)
    con = shut_in(memory_limit=f"{request['memory_bytes'] >> 20}MB", temp_directory="", threads="1")
    if "store" not in request:
        facts = FactView(columns={name: FactColumn(name, is_text=is_text) for name, is_text in request["facts"]})
        line.write({"testing": 0})
        yield _test(con, no_rows(facts, where), condition, where, facts)
        return
    scope = request["scope"]
    sessions = Sessions(Path(request["store"]), request["wait_s"], read_only=True)
    facts = sessions.run(lambda reading: facts_seen(reading, scope))
    columns = facts.named_in(where)
    holds, params = search_condition(request["search"])
    most_rows = BORDERS.span_rows if set(columns) & set(LONG_COLUMNS) or holds else BORDERS.most_rows
    query = arrow_query(columns, holds, params, scope)
    line.write({"testing": 0})
    yield _test(con, no_rows(facts, where), condition, where, facts)
    for rows in sweep(sessions, "traces", query, most_rows):
        line.write({"testing": rows.num_rows})
        yield _test(con, rows, condition, where, facts)


def no_rows(facts: FactView, where: str) -> pa.Table:
    """A table without rows, in which a condition that cannot be used is found before any row is read."""
    return table([], {"seq": "int64", **types_of({name: facts.kind(name) for name in facts.named_in(where)})})


def _test(con: DuckDBPyConnection, rows: pa.Table, condition: str, where: str, facts: FactView) -> list[int]:
    """`seq` of the rows that meet the condition."""
    import duckdb

    con.register("fetched", rows)
    try:
        found = con.execute(f"SELECT seq FROM fetched AS trace_view WHERE {condition} ORDER BY seq").fetchall()
    except (duckdb.OutOfMemoryException, MemoryError):
        raise UsageError(f"the condition '{where}' needs too much memory", "ask for something smaller") from None
    except duckdb.Error as error:
        raise refused(where, error, facts.names) from None
    finally:
        con.unregister("fetched")
    return [row[0] for row in found]


if __name__ == "__main__":
    main()
