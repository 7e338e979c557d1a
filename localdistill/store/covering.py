"""Journals for what is older than they are: before the first change to a store of an older version, all that it holds
is written into a journal, once, so that it too can be lost and made again."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.safety.closing import closed_writer
from localdistill.safety.journal import sizes
from localdistill.safety.record_lines import encode
from localdistill.store import selections
from localdistill.store.journals import FIRST
from localdistill.store.lines import Line, columns_line, facts_line, prompt_line, trace_line
from localdistill.store.places import Place, key_of, move_place, tail_of
from localdistill.store.reading import rows_query, sweep
from localdistill.store.replies import reply_line, reply_of_cell
from localdistill.store.rows import (
    FACT_COLUMNS,
    PROMPT_COLUMNS,
    TRACE_COLUMNS,
    fact_of,
    prompt_of,
    restored,
    trace_of_row,
)
from localdistill.store.session import Sessions, transaction
from localdistill.store.writing import TableName

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def cover(sessions: Sessions, journal: Path) -> None:
    """Journal what the store holds that came before there were journals of everything, beside `journal`. Where another
    process does so, wait for it."""
    if not _is_uncovered(sessions):
        return
    path = journal.with_name(sessions.path.stem + FIRST)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_uncovered(sessions):
            return
        with closed_writer(path) as writer:
            end = 0
            for line in _everything(sessions):
                writer.add(data := encode(line))
                end += len(data)
        place = Place(end, tail_of(path, end), 0, *sizes(path))

        def work(con: DuckDBPyConnection) -> None:
            with transaction(con):
                con.execute("DELETE FROM uncovered")
                move_place(con, key_of(sessions.path, path), place)

        sessions.run(work)


def _is_uncovered(sessions: Sessions) -> bool:
    return bool(sessions.run(lambda con: con.execute("FROM uncovered LIMIT 1").fetchall()))


def _everything(sessions: Sessions) -> Iterator[Line]:
    for created, row in _records(sessions, "prompts", PROMPT_COLUMNS):
        yield {**prompt_line(prompt_of(row)), "at": created}
    for created, row in _records(sessions, "traces", TRACE_COLUMNS):
        yield {**trace_line(trace_of_row(row)), "at": created}
    for row in _rows(sessions, "fact_columns", _FACT_COLUMNS, "true"):
        yield columns_line([dict(zip(_FACT_COLUMNS, row, strict=True))])
    for *row, created in _rows(sessions, "facts", (*FACT_COLUMNS, "created_at"), "true"):
        yield {**facts_line([fact_of(row)]), "at": _seconds(created)}
    for identity, attempt, engine, model, reply, created in _rows(
            sessions, "replies", ("id", "attempt", "engine", "model", "reply", "created_at"), "true"):
        yield {**reply_line((identity, attempt), restored(engine), restored(model), reply_of_cell(reply), ""),
               "at": _seconds(created)}
    for identity, name, definition, removed, created in _rows(
            sessions, "selections", ("id", "name", "definition", "removed", "created_at"), "true ORDER BY seq"):
        yield from selections.selected_lines(identity, selections.selection(sessions, identity).trace_ids)
        yield {**selections.selection_line(identity, restored(name), selections.mapping_of(definition),
                                           selections.mapping_of(removed)), "at": _seconds(created)}
    for (dataset,) in sessions.run(lambda con: con.execute("SELECT DISTINCT dataset FROM examples").fetchall()):
        yield from selections.lineage_lines(dataset, selections.lineage(sessions, dataset))


_FACT_COLUMNS = ("member", "version", "variant", "kind", "metric", "is_text", "of_prompts")


def _records(sessions: Sessions, name: TableName, columns: Sequence[str]) -> Iterator[tuple[float, Sequence[Any]]]:
    """(when it was stored, the row) of every row in stored order."""
    for _, created, *row in sweep(sessions, name, rows_query(name, ("created_at", *columns)), BORDERS.span_rows):
        yield _seconds(created), row


def _rows(sessions: Sessions, name: str, columns: Sequence[str], where: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a table that has no numbers, some in each session."""
    for start in range(0, sessions.run(lambda con: con.execute(f"SELECT count(*) FROM {name}").fetchall())[0][0],
                       BORDERS.span_rows):

        def work(con: DuckDBPyConnection, start: int = start) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = con.execute(
                f"SELECT {', '.join(columns)} FROM {name} WHERE {where} LIMIT {BORDERS.span_rows} OFFSET {start}"
            ).fetchall()
            return rows

        yield from sessions.run(work)


def _seconds(created: datetime | None) -> float:
    return 0.0 if created is None else created.replace(tzinfo=UTC).timestamp()
