"""Statements that add rows. Each function works inside a transaction of its caller and may run twice: what is there
stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.records import content_id
from localdistill.store.rows import FACT_TABLE, PROMPT_TABLE, TRACE_TABLE, size_of, table, types_of
from localdistill.store.session import first_row

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


def batched(pairs: Iterable[tuple[T, dict[str, Any]]]) -> Iterator[list[tuple[T, dict[str, Any]]]]:
    """Records with their rows in batches that one short session can write."""
    batch: list[tuple[T, dict[str, Any]]] = []
    size = 0
    for record, row in pairs:
        batch.append((record, row))
        size += size_of(row)
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


def new_rows(con: DuckDBPyConnection, name: TableName, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose id is not stored, each id once, numbered behind the last stored row; without those that were
    forgotten on purpose."""
    if not rows:
        return []
    with incoming_ids(con, [row["id"] for row in rows]):
        known = {r[0] for r in con.execute(f"SELECT id FROM {name} SEMI JOIN incoming USING (id)").fetchall()}
    new: dict[str, dict[str, Any]] = {}
    barred = forgotten_ids(con)
    for row in rows:
        if row["id"] not in known and not (barred and _names(name, row) & barred):
            new.setdefault(row["id"], row)
    return [{"seq": seq, **row} for seq, row in enumerate(new.values(), start=1 + last_seq(con, name))]


def forgotten_ids(con: DuckDBPyConnection) -> set[str]:
    """All that nobody may store again: ids of prompts and traces, and what `asked_name` makes of prompts."""
    return {row[0] for row in con.execute("SELECT id FROM forgotten").fetchall()}


def asked_name(messages: str) -> str:
    """What a prompt is known by whatever its reference: the cell that holds its messages, hashed."""
    return content_id("messages", messages)


def _names(name: TableName, row: Mapping[str, Any]) -> set[str]:
    return {row["id"], asked_name(row["messages"]) if name == "prompts" else row["prompt_id"]}


def insert_prompts(con: DuckDBPyConnection, new: Sequence[dict[str, Any]]) -> None:
    """Add rows that are new. Traces that waited for their prompt find it."""
    if not new:
        return
    types = {"seq": "int64", **types_of(PROMPT_TABLE)}
    with incoming(con, table(new, types)):
        con.execute(f"INSERT INTO prompts ({', '.join(types)}) SELECT {', '.join(types)} FROM incoming ORDER BY seq")
        con.execute("UPDATE traces SET prompt_seq = incoming.seq FROM incoming "
                    "WHERE traces.prompt_seq IS NULL AND traces.prompt_id = incoming.id")


def insert_traces(con: DuckDBPyConnection, new: Sequence[dict[str, Any]]) -> None:
    """Add rows that are new."""
    if not new:
        return
    types = {"seq": "int64", **types_of(TRACE_TABLE)}
    with incoming(con, table(new, types)):
        con.execute(
            f"INSERT INTO traces ({', '.join(types)}, prompt_seq) "
            f"SELECT {', '.join('i.' + name for name in types)}, p.seq "
            "FROM incoming i LEFT JOIN prompts p ON p.id = i.prompt_id ORDER BY i.seq"
        )


def adopt_traces(con: DuckDBPyConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give traces without a prompt, and what was rewritten from them, these stored prompts."""
    with incoming(con, table(rows, {"trace_id": "string", "prompt_id": "string"})):
        for own in ("id", "parent_id"):
            con.execute(
                "UPDATE traces SET prompt_id = p.id, prompt_seq = p.seq FROM incoming i JOIN prompts p "
                f"ON p.id = i.prompt_id WHERE traces.prompt_seq IS NULL AND i.trace_id = traces.{own}"
            )


_FACT_TYPES = {"trace_seq": "int64", "prompt_seq": "int64", **types_of(FACT_TABLE)}
_COLUMN_TYPES = {"member": "string", "version": "int64", "variant": "string", "kind": "string", "metric": "string",
                 "is_text": "bool", "of_prompts": "bool"}


def seqs_of(con: DuckDBPyConnection, name: str, ids: Sequence[str]) -> dict[str, int]:
    """The place in the stored order of each id that is stored."""
    with incoming_ids(con, ids):
        return dict(con.execute(f"SELECT id, seq FROM {name} SEMI JOIN incoming USING (id)").fetchall())


def upsert_facts(con: DuckDBPyConnection, rows: Sequence[dict[str, Any]],
                 keep_newer: bool = False) -> list[dict[str, Any]]:
    """Add facts; of two of the same member, version and variant the second replaces the first, and with `keep_newer`
    the newer one stays. Returns those of traces and prompts that are not stored."""
    if not rows:
        return []
    latest = {(row["subject_id"], row["member"], row["version"], row["variant"]): row for row in rows}
    ids = list(dict.fromkeys(row["subject_id"] for row in latest.values()))
    traces = seqs_of(con, "traces", ids)
    others = [i for i in ids if i not in traces]
    prompts = seqs_of(con, "prompts", others) if others else {}
    placed = [{"trace_seq": traces.get(row["subject_id"]), **row,
               "prompt_seq": None if row["subject_id"] in traces else prompts[row["subject_id"]]}
              for row in latest.values() if row["subject_id"] in traces or row["subject_id"] in prompts]
    unplaced = [row for row in latest.values() if row["subject_id"] not in traces and row["subject_id"] not in prompts]
    if not placed:
        return unplaced
    placed.sort(key=lambda row: (row["trace_seq"] or 0, row["prompt_seq"] or 0))
    with incoming(con, table(placed, _FACT_TYPES)):
        for place in ("trace_seq", "prompt_seq"):
            if seqs := [row[place] for row in placed if row[place] is not None]:
                con.execute(
                    f"DELETE FROM facts USING incoming i WHERE facts.{place} BETWEEN ? AND ? "
                    f"AND facts.{place} = i.{place} AND {_SAME_FACT}"
                    + (" AND facts.created_at <= i.created_at" if keep_newer else ""), [min(seqs), max(seqs)],
                )
        columns = ", ".join(_FACT_TYPES)
        con.execute(f"INSERT INTO facts ({columns}) SELECT {columns} FROM incoming i"
                    + (f" WHERE NOT EXISTS (FROM facts WHERE facts.trace_seq IS NOT DISTINCT FROM i.trace_seq "
                       f"AND facts.prompt_seq IS NOT DISTINCT FROM i.prompt_seq AND {_SAME_FACT})"
                       if keep_newer and _has_newer(con) else ""))
    know_fact_columns(con, [
        {**row, "metric": metric, "is_text": not metric and row["text"] is not None,
         "of_prompts": row["trace_seq"] is None}
        for row in placed for metric in ("", *(name for name, _ in row["metrics"]))])
    return unplaced


_SAME_FACT = "facts.member = i.member AND facts.version = i.version AND facts.variant = i.variant"


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
