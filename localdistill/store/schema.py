"""Tables, the public view and forward migrations. A step that has shipped never changes: a new one is added behind it,
and the last one that makes the view is the only one that may be built from `VIEW_COLUMNS` and `view_sql`.
Nothing here opens a file.

`seq` numbers rows in stored order. Compressed text is decoded in blocks of neighbouring rows, so everything that reads
text goes by ranges of `seq`; a lookup by scattered ids decodes most of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localdistill.core.errors import StoreError
from localdistill.core.installing import upgrade_command
from localdistill.store.rows import GRADE_TABLE, LABELS, PROMPT_TABLE, TEXT, TRACE_TABLE, Kind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STORAGE_VERSION = "v2.0.0"
"""Pinned format of the file. Formats before it rewrite up to 122,880 rows of text whenever a session that added one
row closes (measured: 1.5 s at 100,000 traces; 40 ms with this one)."""

ROW_GROUP_ROWS = 2048
"""Rows that the file keeps together. Small groups of short sessions are merged up to this size when a session closes,
in memory: four times as many took 110 MB more at 13 KB a trace, and a third more time to fill 60,000 traces; with the
database's own 122,880 one such merge took 2.3 s at 64,000 traces."""

@dataclass(frozen=True)
class ViewColumn:
    """One column of `trace_view`."""

    sql: str
    kind: Kind
    is_listed: bool = True
    """Short enough to stand in a list of traces."""


def _of_traces() -> dict[str, ViewColumn]:
    """Every column of the traces under its own name, but for the id."""
    return {"trace_id" if name == "id" else name: ViewColumn(f"t.{name}", kind, not kind.is_long)
            for name, kind in TRACE_TABLE.items()}


_OF_PROMPTS = {name: ViewColumn(f"p.{name}", PROMPT_TABLE[name], name != "original")
               for name in ("question", "reference", "original", "licence")}
_LABELS = """from_json(json_merge_patch(if(json_valid(p.metadata), p.metadata, '{}'), coalesce(l.own, '{}')),
                '"MAP(VARCHAR, VARCHAR)"')"""

VIEW: Mapping[str, ViewColumn] = {
    **_of_traces(), **_OF_PROMPTS,
    "source": ViewColumn("coalesce(p.source, t.source)", TEXT),
    "labels": ViewColumn(_LABELS, LABELS),
    "score": ViewColumn("g.score", GRADE_TABLE["score"]),
    "grade_reason": ViewColumn("g.grade_reason", GRADE_TABLE["reason"]),
    "extracted": ViewColumn("g.extracted", GRADE_TABLE["extracted"]),
}  # fmt: skip
"""The columns of `trace_view`: what filters and conditions of users may name. `labels` holds what else is known of the
prompt, by name: its metadata, and over it what was stored as labels of it."""

VIEW_COLUMNS = tuple(VIEW)
LONG_COLUMNS = tuple(name for name, column in VIEW.items() if column.kind.is_long)
"""The columns of `trace_view` whose texts may be long."""

_TEXT = "VARCHAR USING COMPRESSION zstd"


def view_sql(windowed: bool, with_labels: bool = True) -> str:
    """The query behind `trace_view`, with `seq` in front.

    `windowed` limits it to `seq BETWEEN $low AND $high`; the prompts of those traces are all `BETWEEN $first AND $last`
    (without that, the texts of all prompts are decoded for every window). Without `with_labels` the column `labels` is
    NULL and they are not read, which takes long when there are many.
    """
    grades = "WHERE trace_seq BETWEEN $low AND $high" if windowed else ""
    traces = "WHERE t.seq BETWEEN $low AND $high" if windowed else ""
    prompts = "(SELECT * FROM prompts WHERE seq BETWEEN $first AND $last)" if windowed else "prompts"
    asked = "WHERE subject_id IN (SELECT prompt_id FROM traces WHERE seq BETWEEN $low AND $high)" if windowed else ""
    labels = f"""
        LEFT JOIN (SELECT subject_id, json_group_object(name, value) AS own FROM labels {asked} GROUP BY subject_id) l
            ON l.subject_id = t.prompt_id"""
    columns = {name: column.sql for name, column in VIEW.items()}
    if not with_labels:
        columns["labels"] = "NULL::MAP(VARCHAR, VARCHAR)"
    return f"""
        SELECT t.seq, {", ".join(f"{sql} AS {name}" for name, sql in columns.items())}
        FROM traces t
        LEFT JOIN {prompts} p ON p.seq = t.prompt_seq
        LEFT JOIN (
            SELECT trace_seq, min(score) AS score, arg_min(reason, score) AS grade_reason,
                arg_min(extracted, score) AS extracted
            FROM grades {grades} GROUP BY trace_seq
        ) g ON g.trace_seq = t.seq{labels if with_labels else ""}
        {traces}"""


@dataclass(frozen=True)
class Migration:
    """One step forward; its place in the list is the version that it leads to."""

    name: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "first tables",
        (
            f"""CREATE TABLE prompts (
                seq BIGINT NOT NULL, id VARCHAR PRIMARY KEY, messages {_TEXT}, question {_TEXT}, reference {_TEXT},
                original {_TEXT}, tests {_TEXT}, source VARCHAR, licence VARCHAR, metadata {_TEXT}, kind VARCHAR,
                steps BIGINT, created_at TIMESTAMP)""",
            f"""CREATE TABLE traces (
                seq BIGINT NOT NULL, id VARCHAR PRIMARY KEY, prompt_id VARCHAR NOT NULL, prompt_seq BIGINT,
                engine VARCHAR, model VARCHAR, reasoning {_TEXT}, answer {_TEXT}, status VARCHAR, trace_kind VARCHAR,
                raw {_TEXT}, finish_reason VARCHAR, sample_index BIGINT, sampling VARCHAR, prompt_tokens BIGINT,
                completion_tokens BIGINT, reasoning_tokens BIGINT, cached_tokens BIGINT, usage_estimated BOOLEAN,
                cost_usd DOUBLE, elapsed_s DOUBLE, parent_id VARCHAR, rewrite VARCHAR, source VARCHAR,
                created_at TIMESTAMP)""",
            f"""CREATE TABLE grades (
                trace_seq BIGINT NOT NULL, trace_id VARCHAR, grader VARCHAR, score DOUBLE NOT NULL, reason {_TEXT},
                extracted {_TEXT}, PRIMARY KEY (trace_id, grader))""",
            "CREATE TABLE labels (subject_id VARCHAR, name VARCHAR, value VARCHAR, PRIMARY KEY (subject_id, name))",
            f"""CREATE TABLE selections (
                seq BIGINT NOT NULL, id VARCHAR PRIMARY KEY, name VARCHAR, definition {_TEXT}, removed VARCHAR,
                created_at TIMESTAMP)""",
            "CREATE TABLE selection_traces (selection_id VARCHAR, position BIGINT, trace_id VARCHAR)",
            "CREATE TABLE examples (dataset VARCHAR, position BIGINT, row_id VARCHAR, trace_id VARCHAR)",
            "CREATE TABLE claims (id VARCHAR PRIMARY KEY, run_id VARCHAR, expires_at DOUBLE)",
            "CREATE TABLE journal_offsets (path VARCHAR PRIMARY KEY, read_bytes BIGINT, tail VARCHAR)",
            """CREATE VIEW trace_view AS SELECT trace_id, prompt_id, question, reference, original, source, licence, \
kind, steps, engine, model, reasoning, answer, status, trace_kind, completion_tokens, cost_usd, parent_id, rewrite, \
sample_index, score, grade_reason, extracted, created_at FROM (
        SELECT t.seq, t.id AS trace_id, t.prompt_id, p.question, p.reference, p.original,
            coalesce(p.source, t.source) AS source, p.licence, p.kind, p.steps, t.engine, t.model, t.reasoning,
            t.answer, t.status, t.trace_kind, t.completion_tokens, t.cost_usd, t.parent_id, t.rewrite, t.sample_index,
            g.score, g.grade_reason, g.extracted, t.created_at
        FROM traces t
        LEFT JOIN prompts p ON p.seq = t.prompt_seq
        LEFT JOIN (
            SELECT trace_seq, min(score) AS score, arg_min(reason, score) AS grade_reason,
                arg_min(extracted, score) AS extracted
            FROM grades  GROUP BY trace_seq
        ) g ON g.trace_seq = t.seq
        )""",
        ),
    ),
    Migration(
        "terms of use",
        (
            "ALTER TABLE traces ADD COLUMN terms VARCHAR DEFAULT ''",
            """CREATE OR REPLACE VIEW trace_view AS SELECT trace_id, prompt_id, question, reference, original, source, \
licence, kind, steps, engine, model, reasoning, answer, status, trace_kind, completion_tokens, cost_usd, \
parent_id, rewrite, sample_index, score, grade_reason, extracted, created_at, terms, tries FROM (
        SELECT t.seq, t.id AS trace_id, t.prompt_id, p.question, p.reference, p.original,
            coalesce(p.source, t.source) AS source, p.licence, p.kind, p.steps, t.engine, t.model, t.reasoning,
            t.answer, t.status, t.trace_kind, t.completion_tokens, t.cost_usd, t.parent_id, t.rewrite, t.sample_index,
            g.score, g.grade_reason, g.extracted, t.created_at, t.terms,
            TRY_CAST(l.value AS BIGINT) AS tries
        FROM traces t
        LEFT JOIN prompts p ON p.seq = t.prompt_seq
        LEFT JOIN (
            SELECT trace_seq, min(score) AS score, arg_min(reason, score) AS grade_reason,
                arg_min(extracted, score) AS extracted
            FROM grades  GROUP BY trace_seq
        ) g ON g.trace_seq = t.seq
        LEFT JOIN (SELECT subject_id, value FROM labels WHERE name = 'tries' ) l
            ON l.subject_id = t.prompt_id
        )""",
        ),
    ),
    Migration(
        # Measured at a million traces: keeping these indexes took two thirds of every session that wrote (0.4 s for
        # 1,000 grades, 0.2 s for 1,000 traces). Writers look for what is there before they add (`store.writing`).
        "no indexes on what grows",
        (
            f"""CREATE TABLE prompts_next (
                seq BIGINT NOT NULL, id VARCHAR NOT NULL, messages {_TEXT}, question {_TEXT}, reference {_TEXT},
                original {_TEXT}, tests {_TEXT}, source VARCHAR, licence VARCHAR, metadata {_TEXT}, kind VARCHAR,
                steps BIGINT, created_at TIMESTAMP)""",
            f"""CREATE TABLE traces_next (
                seq BIGINT NOT NULL, id VARCHAR NOT NULL, prompt_id VARCHAR NOT NULL, prompt_seq BIGINT,
                engine VARCHAR, model VARCHAR, reasoning {_TEXT}, answer {_TEXT}, status VARCHAR, trace_kind VARCHAR,
                raw {_TEXT}, finish_reason VARCHAR, sample_index BIGINT, sampling VARCHAR, prompt_tokens BIGINT,
                completion_tokens BIGINT, reasoning_tokens BIGINT, cached_tokens BIGINT, usage_estimated BOOLEAN,
                cost_usd DOUBLE, elapsed_s DOUBLE, parent_id VARCHAR, rewrite VARCHAR, source VARCHAR,
                created_at TIMESTAMP, terms VARCHAR DEFAULT '')""",
            f"""CREATE TABLE grades_next (
                trace_seq BIGINT NOT NULL, trace_id VARCHAR, grader VARCHAR, score DOUBLE NOT NULL, reason {_TEXT},
                extracted {_TEXT})""",
            *(
                statement
                for name, order in (("prompts", "seq"), ("traces", "seq"), ("grades", "trace_seq"))
                for statement in (
                    f"INSERT INTO {name}_next BY NAME SELECT * FROM {name} ORDER BY {order}",
                    f"DROP TABLE {name}",
                    f"ALTER TABLE {name}_next RENAME TO {name}",
                )
            ),
        ),
    ),
    Migration(
        # NULL where a reply came before its column.
        "cache writes and damaged lines",
        (
            "ALTER TABLE traces ADD COLUMN cache_write_tokens BIGINT",
            "ALTER TABLE journal_offsets ADD COLUMN damaged BIGINT DEFAULT 0",
        ),
    ),
    Migration(
        # NULL where a reply came before its column. What two columns said of a prompt stands in its metadata.
        "what was asked",
        (
            "DROP VIEW trace_view",
            f"ALTER TABLE traces ADD COLUMN asked {_TEXT}",
            "ALTER TABLE traces ADD COLUMN thinks BOOLEAN",
            "ALTER TABLE prompts DROP COLUMN kind",
            "ALTER TABLE prompts DROP COLUMN steps",
            f"CREATE VIEW trace_view AS SELECT {', '.join(VIEW_COLUMNS)} FROM ({view_sql(windowed=False)})",
        ),
    ),
)


def version_of(con: DuckDBPyConnection) -> int:
    """How many steps were taken; 0 for a store that is empty."""
    import duckdb

    try:
        return int(con.execute("SELECT max(version) FROM store_version").fetchall()[0][0] or 0)
    except duckdb.CatalogException:
        return 0


def migrate(con: DuckDBPyConnection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the store to the newest version, each step in one transaction; returns how many steps were taken.
    StoreError when the file is from a newer localdistill."""
    version = version_of(con)
    if version > len(migrations):
        raise StoreError(
            f"this store has version {version}; this localdistill knows versions up to {len(migrations)}",
            upgrade_command(),
        )
    for number, step in enumerate(migrations[version:], start=version + 1):
        con.execute("BEGIN")
        con.execute(
            "CREATE TABLE IF NOT EXISTS store_version (version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
        )
        for statement in step.statements:
            con.execute(statement)
        con.execute("INSERT INTO store_version VALUES (?, ?, current_localtimestamp())", [number, step.name])
        con.execute("COMMIT")
    return len(migrations) - version
