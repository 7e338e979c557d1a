"""What a browsing view needs of the store: the ordered row numbers of all traces that it shows, as compact integers,
and short rows of some of them by number. Reads only, in sessions that may stand beside other readers, so that scrolling
never makes a writer wait for long."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError, UsageError, nearest
from localdistill.core.judgements import Judgement
from localdistill.core.records import PERSON, Fact, Prompt, Trace
from localdistill.rewrites.naming import RewriteName
from localdistill.store.columns import facts_seen, scores_sql, within
from localdistill.store.conditions import matching_seqs
from localdistill.store.reading import LOST_HINT, Query, arrow_rows, column_of, integers, seqs, stored_seqs, sweep
from localdistill.store.rows import (
    FACT_COLUMNS,
    PROMPT_COLUMNS,
    TRACE_COLUMNS,
    fact_of,
    prompt_of,
    restored,
    restored_cells,
    storable,
    trace_of_row,
)
from localdistill.store.session import WAIT_S, Sessions
from localdistill.store.view import search_condition, view_query

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

ORDERS: Mapping[str, tuple[str, str]] = {
    "stored": ("", "ascending"), "newest": ("", "descending"), "score": ("score", "ascending"),
    "tokens": ("completion_tokens", "descending"), "cost": ("cost_usd", "descending"),
}
"""Orders that cost one pass over a narrow column: name -> (column, direction). Unknown values come last."""

NO_PROMPT = "(its prompt is not stored)"
"""Stands for the question of a trace without a prompt."""
EXCERPT_CHARS = 240
"""Characters of a question in a short row."""


@dataclass(frozen=True, slots=True)
class ShortRow:
    """One trace as a line of a table."""

    seq: int
    id: str
    question: str
    """The first characters of the last user turn, or NO_PROMPT; what a model wrote is not safe for a terminal."""
    model: str
    status: str
    score: float | None
    """A person's judgement, else the lowest of all graders; None when nobody judged."""
    tokens: int
    cost_usd: float | None
    rewrite: str
    is_favourite: bool = False
    tags: tuple[str, ...] = ()
    note: str = ""

    @property
    def rewritten_by(self) -> str:
        """The rewrite's name alone; empty for an original trace."""
        return RewriteName.parse(self.rewrite).use


@dataclass(frozen=True)
class SavedSelection:
    """A saved selection without its traces."""

    id: str
    name: str
    definition: Mapping[str, Any]
    removed: Mapping[str, int]
    kept: int
    saved_at: datetime


def readers(path: Path, wait_s: float = WAIT_S) -> Sessions:
    """Reading sessions on the store at `path`, which is brought to the newest version first."""
    Sessions(path, wait_s).run(lambda con: None)
    return Sessions(path, wait_s, read_only=True)


def check_order(order: str) -> None:
    """UsageError for an order that there is not."""
    if order not in ORDERS:
        raise UsageError(f"traces cannot be ordered by '{order}'{nearest(order, ORDERS)}",
                         f"known: {', '.join(ORDERS)}")


def stored_places(sessions: Sessions, where: str = "", search: str = "") -> Iterator[array[int]]:
    """The `seq` of every trace that meets the user's condition and holds the text, in stored order, in pieces as they
    are found."""
    if where:
        with contextlib.closing(matching_seqs(sessions, where, search)) as found:
            yield from found
        return
    holds, params = search_condition(search)
    if holds:
        held = (row[0] for row in sweep(sessions, "traces", view_query("seq", holds, params), BORDERS.span_rows))
        yield from _pieces(held)
        return
    for table in sweep(sessions, "traces", _narrow()):
        yield integers(table)


def selected_places(sessions: Sessions, ids: Sequence[str]) -> array[int]:
    """The places of these traces, in stored order; those that are gone are left out."""
    found = array("q")
    for start in range(0, len(ids), BORDERS.lookup_ids):
        found.extend(seqs(sessions, "traces", ids[start:start + BORDERS.lookup_ids]).values())
    return array("q", sorted(set(found)))


def sorted_places(sessions: Sessions, order: str, among: array[int] | None = None) -> array[int]:
    """All places in `order`, or those `among` in it. Equal rows stay in stored order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, direction = ORDERS[order]
    tables = list(sweep(sessions, "traces", _scored if column == "score" else _narrow(column)))
    if not tables:
        return array("q")
    whole = pa.concat_tables(tables)
    if among is not None:
        whole = whole.filter(pc.is_in(whole.column("seq"), column_of(among)))
    keys = ([(column, direction)] if column else []) + [("seq", "descending" if order == "newest" else "ascending")]
    return integers(whole.take(pc.sort_indices(whole, sort_keys=keys)))


def places_by_prompt(sessions: Sessions, among: array[int]) -> array[int]:
    """The places `among`, so that the traces of one prompt stand together, in stored order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sql = "SELECT seq, coalesce(prompt_seq, -seq) AS prompt FROM traces WHERE seq BETWEEN $1 AND $2"
    tables = list(sweep(sessions, "traces", arrow_rows(sql)))
    if not tables:
        return array("q")
    whole = pa.concat_tables(tables)
    whole = whole.filter(pc.is_in(whole.column("seq"), column_of(among)))
    return integers(whole.take(pc.sort_indices(whole, sort_keys=[("prompt", "ascending"), ("seq", "ascending")])))


def _scored(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[pa.Table]:
    """`seq` and score of the traces in a window."""
    scores = scores_sql(facts_seen(con), "BETWEEN $1 AND $2")
    return arrow_rows(f"SELECT t.seq, g.score FROM traces t LEFT JOIN ({scores}) g ON g.trace_seq = t.seq "
                      "WHERE t.seq BETWEEN $1 AND $2")(con, low, high, among)


def _narrow(column: str = "") -> Query[pa.Table]:
    """`seq`, in stored order, and a column of the traces."""
    return arrow_rows(
        f"SELECT seq{', ' + column if column else ''} FROM traces WHERE seq BETWEEN $1 AND $2 ORDER BY seq")


def _pieces(found: Iterator[int]) -> Iterator[array[int]]:
    """Numbers in pieces that grow, so that the first come at once."""
    piece, most = array("q"), 1
    for seq in found:
        piece.append(seq)
        if len(piece) >= most:
            yield piece
            piece, most = array("q"), min(2 * most, BORDERS.most_rows)
    if piece:
        yield piece


_SHORT_COLUMNS = {"id": "id", "model": "model", "status": "status", "tokens": "completion_tokens",
                  "cost_usd": "cost_usd", "rewrite": "rewrite"}
"""Fields of a `ShortRow` that are columns of traces."""
_SHORT = f"""
    SELECT seq, prompt_seq, {", ".join(_SHORT_COLUMNS.values())} FROM traces
    WHERE seq BETWEEN $low AND $high AND seq IN (SELECT unnest($wanted::BIGINT[]))"""
_WANTED = "BETWEEN $low AND $high AND trace_seq IN (SELECT unnest($wanted::BIGINT[]))"
_JUDGED = f"SELECT trace_seq, {', '.join(FACT_COLUMNS)} FROM facts WHERE trace_seq {_WANTED} AND {within([PERSON])}"
_QUESTIONS = f"""
    SELECT seq, left(question, {EXCERPT_CHARS}) FROM prompts
    WHERE seq BETWEEN $low AND $high AND seq IN (SELECT unnest($wanted::BIGINT[]))"""


def short_rows(sessions: Sessions, places: Sequence[int]) -> list[ShortRow]:
    """The rows at these places, in that order; places that are gone are left out. One pass over each table, however
    far apart the places are (measured: 64 scattered ones of a million in a tenth of a second)."""

    def work(con: DuckDBPyConnection) -> tuple[list[tuple[Any, ...]], dict[int, float], dict[int, str],
                                               dict[int, Judgement]]:
        rows = rows_at(con, _SHORT, places)
        asked = [row[1] for row in rows if row[1] is not None]
        scores, said = scores_sql(facts_seen(con), _WANTED), rows_at(con, _JUDGED, places)
        judged = {place: Judgement.of(fact_of(cells)) for place, *cells in said}
        return rows, dict(rows_at(con, scores, places)), dict(rows_at(con, _QUESTIONS, asked)), judged

    rows, scores, questions, judged = sessions.run(work)
    found = {row[0]: _short_row(row, scores.get(row[0]), questions.get(row[1]) or "", judged.get(row[0], Judgement()))
             for row in rows}
    return [found[place] for place in places if place in found]


def rows_at(con: DuckDBPyConnection, sql: str, places: Sequence[int]) -> list[tuple[Any, ...]]:
    """What a query of rows from $low to $high that are among $wanted finds at these places."""
    if not places:
        return []
    values = {"low": min(places), "high": max(places), "wanted": list(places)}
    rows: list[tuple[Any, ...]] = con.execute(sql, values).fetchall()
    return rows


def _short_row(row: tuple[Any, ...], score: float | None, question: str, judged: Judgement) -> ShortRow:
    seq, prompt_seq, *cells = row
    known = restored_cells(tuple(_SHORT_COLUMNS.values()), cells)
    question = NO_PROMPT if prompt_seq is None else restored(question)
    return ShortRow(seq=seq, question=question, score=score, is_favourite=judged.favourite, tags=judged.tags,
                    note=judged.note, **{name: known[column] for name, column in _SHORT_COLUMNS.items()})


@dataclass(frozen=True)
class TraceDetail:
    """One trace with everything that is known of it."""

    prompt: Prompt
    trace: Trace
    facts: tuple[Fact, ...]
    """What is said of it and of its prompt, by each member in its newest version."""
    made_of_it: tuple[tuple[str, str], ...]
    """(id, rewrite) of the traces that were rewritten from it."""
    siblings: int
    """Other traces of the same prompt."""
    selections: tuple[str, ...]
    """Names of the saved selections that hold it."""
    datasets: tuple[str, ...]
    """Digests of the datasets that hold it."""


def place_of(sessions: Sessions, trace_id: str) -> int:
    """The `seq` of the trace with exactly this id; StoreError when it is not stored."""
    return stored_seqs(sessions, "traces", [trace_id])[0]


def detail_at(sessions: Sessions, place: int) -> TraceDetail:
    """The trace at a place, with what hangs on it. StoreError when the trace or its prompt is not stored."""

    def work(con: DuckDBPyConnection) -> TraceDetail:
        traces = con.execute(f"SELECT {', '.join(TRACE_COLUMNS)}, prompt_seq FROM traces WHERE seq = ?",
                             [place]).fetchall()
        prompts = con.execute(f"SELECT {', '.join(PROMPT_COLUMNS)} FROM prompts WHERE seq = ?",
                              [traces[0][-1]]).fetchall() if traces else []
        if not traces:
            raise StoreError("the trace is not in this store any more", "look again: ctrl+r")
        if not prompts:
            raise StoreError("the prompt of this trace is not in this store", LOST_HINT)
        trace = trace_of_row(traces[0][:-1])
        facts = con.execute(
            f"SELECT {', '.join(FACT_COLUMNS)} FROM (SELECT * FROM facts WHERE trace_seq = ? UNION ALL "
            "SELECT * FROM facts WHERE prompt_seq = ?) "
            "QUALIFY version = max(version) OVER (PARTITION BY member) ORDER BY kind, member, variant",
            [place, traces[0][-1]]).fetchall()
        made, siblings, selections = _kin(con, trace.id, trace.prompt_id)
        datasets = con.execute("SELECT DISTINCT dataset FROM examples WHERE trace_id = ? ORDER BY 1",
                               [storable(trace.id)]).fetchall()
        return TraceDetail(prompt_of(prompts[0]), trace, tuple(map(fact_of, facts)), tuple(made), siblings,
                           tuple(selections), tuple(row[0] for row in datasets))

    return sessions.run(work)


def made_of(sessions: Sessions, trace_id: str) -> list[tuple[str, str]]:
    """(id, rewrite) of the traces that were rewritten from this one."""
    return sessions.run(lambda con: _made_of(con, trace_id))


def answers_to(sessions: Sessions, prompt_id: str) -> list[str]:
    """The ids of all traces of a prompt, in stored order."""
    sql = "SELECT id FROM traces WHERE prompt_id = ? ORDER BY seq"
    return sessions.run(lambda con: [restored(row[0]) for row in con.execute(sql, [storable(prompt_id)]).fetchall()])


def _made_of(con: DuckDBPyConnection, trace_id: str) -> list[tuple[str, str]]:
    made = con.execute("SELECT id, rewrite FROM traces WHERE parent_id = ? ORDER BY seq",
                       [storable(trace_id)]).fetchall()
    return [(restored(identity), restored(rewrite)) for identity, rewrite in made]


def _kin(con: DuckDBPyConnection, trace_id: str, prompt_id: str) -> tuple[list[tuple[str, str]], int, list[str]]:
    [(answers,)] = con.execute("SELECT count(*) FROM traces WHERE prompt_id = ?", [storable(prompt_id)]).fetchall()
    named = con.execute("SELECT DISTINCT name FROM selections WHERE id IN "
                        "(SELECT selection_id FROM selection_traces WHERE trace_id = ?) ORDER BY 1",
                        [storable(trace_id)]).fetchall()
    return _made_of(con, trace_id), int(answers) - 1, [restored(row[0]) for row in named]


def saved_selections(sessions: Sessions) -> list[SavedSelection]:
    """Every saved selection, the newest first."""

    def work(con: DuckDBPyConnection) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = con.execute(
            "SELECT s.id, s.name, s.definition, s.removed, coalesce(k.kept, 0), s.created_at FROM selections s "
            "LEFT JOIN (SELECT selection_id, count(*) AS kept FROM selection_traces GROUP BY 1) k "
            "ON k.selection_id = s.id ORDER BY s.seq DESC").fetchall()
        return rows

    return [SavedSelection(identity, restored(name), json.loads(restored(definition)), json.loads(removed), kept, at)
            for identity, name, definition, removed, kept, at in sessions.run(work)]
