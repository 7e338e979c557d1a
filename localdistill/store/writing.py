"""Statements that add rows. Each function works inside a transaction of its caller and may run twice: what is there
stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.records import Fact, Prompt, Trace, content_id
from localdistill.store.rows import FACT_TABLE, PROMPT_TABLE, TRACE_TABLE, storable, table
from localdistill.store.session import first_row
from localdistill.store.tables import at_times, fact_table, size_of, with_numbers

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

T = TypeVar("T")
TableName = Literal["prompts", "traces"]


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


Record = TypeVar("Record", Prompt, Trace, Fact)


def batched(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in batches that one short session can write."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += size_of(record)
        if len(batch) >= BORDERS.batch_rows or size >= BORDERS.batch_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def incoming(con: DuckDBPyConnection, data: pa.Table) -> Iterator[None]:
    """`data` as the table `incoming` for the length of the block."""
    import duckdb

    con.register("incoming", data)
    try:
        yield
    except duckdb.Error:
        with contextlib.suppress(duckdb.Error):  # a transaction that failed takes no more; what went wrong is told
            con.unregister("incoming")
        raise
    else:
        con.unregister("incoming")


@contextmanager
def incoming_ids(con: DuckDBPyConnection, ids: Sequence[str]) -> Iterator[None]:
    """`ids` as the table `incoming(position, id)` for the length of the block."""
    import pyarrow as pa

    with incoming(con, pa.table({"position": pa.array(range(len(ids)), pa.int64()), "id": pa.array(ids, pa.string())})):
        yield


def last_seq(con: DuckDBPyConnection, name: str) -> int:
    """The `seq` of the newest row, 0 when there is none."""
    row = first_row(con, f"SELECT coalesce(max(seq), 0) FROM {name}")
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class NewRows:
    """What is new among records."""

    data: pa.Table | None = None
    """With the place in the stored order; None where there were no records."""
    places: Sequence[int] = ()
    """Which of the records, in order."""
    ids: Sequence[str] = ()
    """Of those."""
    seqs: Mapping[str, int] = field(default_factory=dict)
    """Where each record stands in the stored order, by id, also of those that were there; none that is forgotten."""


def new_rows(con: DuckDBPyConnection, name: TableName, data: pa.Table | None) -> NewRows:
    """The rows whose id is not stored, each id once, numbered behind the last stored row; without those that were
    forgotten on purpose."""
    import pyarrow as pa

    if data is None:
        return NewRows()
    ids = data["id"].to_pylist()
    seqs, barred, places = seqs_of(con, name, ids), forgotten_ids(con), list[int]()
    others = data["messages" if name == "prompts" else "prompt_id"].to_pylist() if barred else ids
    end = last_seq(con, name)
    for place, one in enumerate(ids):
        about = others[place] if name == "traces" or not barred else asked_name(others[place])
        if one in seqs or one in barred or about in barred:
            continue
        places.append(place)
        seqs[one] = end = end + 1
    new = [ids[place] for place in places]
    rows = data if len(new) == len(ids) else data.take(pa.array(places, pa.int64()))
    return NewRows(with_numbers(rows, "seq", [seqs[one] for one in new]), places, new, seqs)


def forgotten_ids(con: DuckDBPyConnection) -> set[str]:
    """All that nobody may store again: ids of prompts and traces, and what `asked_name` makes of prompts."""
    return {row[0] for row in con.execute("SELECT id FROM forgotten").fetchall()}


def asked_name(messages: str) -> str:
    """What a prompt is known by whatever its reference: the cell that holds its messages, hashed."""
    return content_id("messages", messages)


Times = datetime | Sequence[datetime]
"""When all of some rows were stored, or each of them."""


def insert_prompts(con: DuckDBPyConnection, new: NewRows, created: Times) -> None:
    """Add rows that are new. Traces that waited for their prompt find it."""
    if new.data is None or not new.places:
        return
    columns = ", ".join(("seq", *PROMPT_TABLE))
    with incoming(con, at_times(new.data, created)):
        con.execute(f"INSERT INTO prompts ({columns}) SELECT {columns} FROM incoming ORDER BY seq")
        con.execute("UPDATE traces SET prompt_seq = incoming.seq FROM incoming "
                    "WHERE traces.prompt_seq IS NULL AND traces.prompt_id = incoming.id")


def insert_traces(con: DuckDBPyConnection, new: NewRows, created: Times, prompts: NewRows | None = None) -> None:
    """Add rows that are new. prompts: of which it is known where they stand; others are looked for."""
    if new.data is None or not new.places:
        return
    ids, placed = new.data["prompt_id"].to_pylist(), dict(prompts.seqs if prompts else {})
    if others := [one for one in dict.fromkeys(ids) if one not in placed]:
        placed |= seqs_of(con, "prompts", others)
    columns = ", ".join(("seq", "prompt_seq", *TRACE_TABLE))
    with incoming(con, with_numbers(at_times(new.data, created), "prompt_seq", [placed.get(one) for one in ids])):
        con.execute(f"INSERT INTO traces ({columns}) SELECT {columns} FROM incoming ORDER BY seq")


def adopt_traces(con: DuckDBPyConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give traces without a prompt, and what was rewritten from them, these stored prompts."""
    with incoming(con, table(rows, {"trace_id": "string", "prompt_id": "string"})):
        for own in ("id", "parent_id"):
            con.execute(
                "UPDATE traces SET prompt_id = p.id, prompt_seq = p.seq FROM incoming i JOIN prompts p "
                f"ON p.id = i.prompt_id WHERE traces.prompt_seq IS NULL AND i.trace_id = traces.{own}"
            )


_COLUMN_TYPES = {"member": "string", "version": "int64", "variant": "string", "kind": "string", "metric": "string",
                 "is_text": "bool", "of_prompts": "bool"}


def seqs_of(con: DuckDBPyConnection, name: str, ids: Sequence[str]) -> dict[str, int]:
    """The place in the stored order of each id that is stored."""
    with incoming_ids(con, ids):
        return dict(con.execute(f"SELECT id, seq FROM {name} SEMI JOIN incoming USING (id)").fetchall())


Said = tuple[Fact, datetime]
"""A fact, and when it was said."""


@dataclass(frozen=True)
class Subjects:
    """Where traces and prompts that facts are about stand in the stored order, by id."""

    traces: Mapping[str, int]
    prompts: Mapping[str, int]
    fresh_from: int | None = None
    """From this trace on nobody has said anything yet; None where that is not known."""

    def lacks(self, identity: str) -> bool:
        """It is not stored."""
        return identity not in self.traces and identity not in self.prompts


def subjects_of(con: DuckDBPyConnection, facts: Iterable[Fact], prompts: NewRows = NewRows(),
                traces: NewRows = NewRows()) -> Subjects:
    """Where what these facts are about is stored, or will be once the new prompts and traces are."""
    ids = list(dict.fromkeys(storable(fact.subject_id) for fact in facts))
    found = {one: traces.seqs[one] for one in ids if one in traces.seqs}
    if left := [one for one in ids if one not in found]:
        found |= seqs_of(con, "traces", left)
    others = [one for one in ids if one not in found]
    asked = {one: prompts.seqs[one] for one in others if one in prompts.seqs}
    if left := [one for one in others if one not in asked]:
        asked |= seqs_of(con, "prompts", left)
    return Subjects(found, asked, traces.seqs[traces.ids[0]] if traces.ids else None)


def upsert_facts(con: DuckDBPyConnection, said: Sequence[Said], subjects: Subjects,
                 keep_newer: bool = False) -> list[Said]:
    """Add facts; of two of the same member, version and variant the second replaces the first, and with `keep_newer`
    the newer one stays. Returns those of traces and prompts that are not stored."""
    latest: dict[tuple[str, str, int, str], tuple[Fact, datetime, int | None, int | None]] = {}
    unplaced = dict[tuple[str, str, int, str], Said]()
    for fact, at in said:
        identity = storable(fact.subject_id)
        key = (identity, fact.by, fact.version, fact.variant)
        trace = subjects.traces.get(identity)
        prompt = subjects.prompts.get(identity) if trace is None else None
        if trace is None and prompt is None:
            unplaced[key] = (fact, at)
        else:
            latest[key] = (fact, at, trace, prompt)
    placed = sorted(latest.values(), key=lambda one: (one[2] or 0, one[3] or 0))
    if not placed:
        return list(unplaced.values())
    facts, created, *places = map(list, zip(*placed, strict=True))
    data = fact_table(facts, created)
    for name, seqs in zip(_PLACES, places, strict=True):
        data = with_numbers(data, name, seqs)
    is_fresh = subjects.fresh_from is not None and all(seq is not None and seq >= subjects.fresh_from
                                                       for seq in places[0])
    with incoming(con, data):
        for name, seqs in zip(_PLACES, places, strict=True):
            if not is_fresh and (stated := [seq for seq in seqs if seq is not None]):
                con.execute(
                    f"DELETE FROM facts USING incoming i WHERE facts.{name} BETWEEN ? AND ? "
                    f"AND facts.{name} = i.{name} AND {_SAME_FACT}"
                    + (" AND facts.created_at <= i.created_at" if keep_newer else ""), [min(stated), max(stated)],
                )
        columns = ", ".join((*_PLACES, *FACT_TABLE))
        con.execute(f"INSERT INTO facts ({columns}) SELECT {columns} FROM incoming i"
                    + (f" WHERE NOT EXISTS (FROM facts WHERE facts.trace_seq IS NOT DISTINCT FROM i.trace_seq "
                       f"AND facts.prompt_seq IS NOT DISTINCT FROM i.prompt_seq AND {_SAME_FACT})"
                       if keep_newer and not is_fresh and _has_newer(con) else ""))
    _know_columns_of(con, facts, places[0])
    return list(unplaced.values())


_PLACES = ("trace_seq", "prompt_seq")
_SAME_FACT = "facts.member = i.member AND facts.version = i.version AND facts.variant = i.variant"


def _know_columns_of(con: DuckDBPyConnection, facts: Sequence[Fact], traces: Sequence[int | None]) -> None:
    names = {(fact.by, fact.version, fact.variant, fact.kind, isinstance(fact.value, str), seq is None,
              tuple(fact.metrics)) for fact, seq in zip(facts, traces, strict=True)}
    know_fact_columns(con, [
        {"member": storable(by), "version": version, "variant": storable(variant), "kind": kind,
         "metric": storable(metric), "is_text": is_text and not metric, "of_prompts": of_prompts}
        for by, version, variant, kind, is_text, of_prompts, metrics in names for metric in ("", *metrics)])


def _has_newer(con: DuckDBPyConnection) -> bool:
    """Some of the incoming facts may be older than what is stored: seldom, and looked at before each is."""
    row = first_row(con, "SELECT (SELECT min(created_at) FROM incoming) <= (SELECT max(created_at) FROM facts)")
    return bool(row and row[0])


def know_fact_columns(con: DuckDBPyConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Remember which columns there are, so that nobody has to look through the facts for them."""
    columns = ", ".join(_COLUMN_TYPES)
    with incoming(con, _columns_of(rows)):
        con.execute(f"INSERT INTO fact_columns ({columns}) SELECT {columns} FROM incoming "
                    f"ANTI JOIN fact_columns USING ({columns})")


def new_columns(con: DuckDBPyConnection, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of the columns that nobody knows yet."""
    columns = ", ".join(_COLUMN_TYPES)
    with incoming(con, _columns_of(rows)):
        found = con.execute(f"SELECT {columns} FROM incoming ANTI JOIN fact_columns USING ({columns})").fetchall()
    return [dict(zip(_COLUMN_TYPES, row, strict=True)) for row in found]


def _columns_of(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    unique = {tuple(row[name] for name in _COLUMN_TYPES): {name: row[name] for name in _COLUMN_TYPES} for row in rows}
    return table(unique.values(), _COLUMN_TYPES)


REPLY_TYPES = {"about": "string", "id": "string", "attempt": "int64", "engine": "string", "model": "string",
               "status": "string", "cost_usd": "double", "prompt_tokens": "int64", "completion_tokens": "int64",
               "elapsed_s": "double", "reply": "string", "created_at": "time"}


def insert_replies(con: DuckDBPyConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add replies to questions of members, each question and attempt once; none about what was forgotten."""
    barred = forgotten_ids(con) if rows else set()
    unique = {(row["id"], row["attempt"]): row for row in rows if row["about"] not in barred}
    if not unique:
        return
    columns = ", ".join(REPLY_TYPES)
    with incoming(con, table(unique.values(), REPLY_TYPES)):
        con.execute(f"INSERT INTO replies ({columns}) SELECT {columns} FROM incoming "
                    "ANTI JOIN replies USING (id, attempt)")


def grant_claims(con: DuckDBPyConnection, ids: Sequence[str], run_id: str) -> dict[str, str]:
    """Claim the ids that no other run holds; returns the others, each with who holds it."""
    with incoming_ids(con, ids):
        held = dict(con.execute("SELECT id, run_id FROM claims SEMI JOIN incoming USING (id) WHERE run_id <> ?",
                                [run_id]).fetchall())
    with incoming_ids(con, [i for i in dict.fromkeys(ids) if i not in held]):
        con.execute("INSERT INTO claims (id, run_id) SELECT id, ? FROM incoming ON CONFLICT (id) DO NOTHING", [run_id])
    return held
