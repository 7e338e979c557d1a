"""The child of `store.conditions`: tests conditions of a user against the rows of the store, one after the other. Its
own queries read the file; the user's words only ever meet rows that were copied out, in a second database without
files, extensions or settings to change, which is another one for every condition."""

from __future__ import annotations

import base64
import contextlib
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.safety.children import JsonPipe, limit_memory, serve
from localdistill.store.columns import LONG_COLUMNS, FactColumn, FactView, facts_seen
from localdistill.store.reading import checked_condition, integers, refused, sweep
from localdistill.store.rows import table, types_of
from localdistill.store.session import Sessions, shut_in
from localdistill.store.view import arrow_query, search_condition

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


def main() -> None:
    """Answer the requests that come in, until none came for a while."""
    line = serve()
    for request in line:
        signal.alarm(0)
        line.write({"begun": True})
        _limit(request["address_bytes"], request["cpu_s"])
        vars(BORDERS).update(request["borders"])
        try:
            for seqs in _matches(request, line):
                if seqs:
                    line.write({"seqs": base64.b64encode(seqs).decode()})
        except LocalDistillError as error:
            line.write({"error": type(error).__name__, "message": error.message, "hint": error.hint})
            continue
        signal.alarm(request["idle_s"])
        line.write({"done": True})


def _limit(address_bytes: int, cpu_s: int) -> None:
    """Of memory for good; of processor time from now on."""
    import resource

    limit_memory(address_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + cpu_s, most))


def _matches(request: dict[str, Any], line: JsonPipe) -> Iterator[array[int]]:
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


def _test(con: DuckDBPyConnection, rows: pa.Table, condition: str, where: str, facts: FactView) -> array[int]:
    """`seq` of the rows that meet the condition."""
    import duckdb

    con.register("fetched", rows)
    try:
        found = con.sql(f"SELECT seq FROM fetched AS trace_view WHERE {condition} ORDER BY seq").to_arrow_table()
    except (duckdb.OutOfMemoryException, MemoryError):
        raise UsageError(f"the condition '{where}' needs too much memory", "ask for something smaller") from None
    except duckdb.Error as error:
        raise refused(where, error, facts.names) from None
    finally:
        con.unregister("fetched")
    return integers(found)


if __name__ == "__main__":
    main()
