"""Tables and forward migrations. A step that has shipped never changes: a new one is added behind it. The public view
is made anew behind the last step, from what `store.columns` says it holds. Nothing here opens a file.

`seq` numbers rows in stored order. Compressed text is decoded in blocks of neighbouring rows, so everything that reads
text goes by ranges of `seq`; a lookup by scattered ids decodes most of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localdistill.core.errors import StoreError
from localdistill.core.installing import upgrade_command
from localdistill.store.columns import ANYBODY, VIEW_COLUMNS, view_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STORAGE_VERSION = "v2.0.0"
"""Pinned format of the file. Formats before it rewrite up to 122,880 rows of text whenever a session that added one
row closes (measured: 1.5 s at 100,000 traces; 40 ms with this one)."""

ROW_GROUP_ROWS = 2048
"""Rows that the file keeps together. Small groups of short sessions are merged up to this size when a session closes,
in memory: four times as many took 110 MB more at 13 KB a trace, and a third more time to fill 60,000 traces; with the
database's own 122,880 one such merge took 2.3 s at 64,000 traces."""

BLOCK_BYTES = 16_384
"""The unit in which a new file grows: with the database's own 262,144 the store of 600 traces of 1.5 KB was 2.5 times
as large, that of 23,000 traces of 6 KB 6 % larger."""

_TEXT = "VARCHAR USING COMPRESSION zstd"


@dataclass(frozen=True)
class Migration:
    """One step forward; its place in the list is the version that it leads to."""

    name: str
    statements: tuple[str, ...]


_STEPS: tuple[Migration, ...] = (
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
            """CREATE VIEW trace_view AS SELECT trace_id, prompt_id, engine, model, reasoning, answer, status, \
trace_kind, raw, finish_reason, sample_index, sampling, cost_usd, elapsed_s, parent_id, rewrite, source, terms, asked, \
thinks, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, usage_estimated, cache_write_tokens, \
created_at, question, reference, original, licence, labels, score, grade_reason, extracted FROM (
        SELECT t.seq, t.id AS trace_id, t.prompt_id AS prompt_id, t.engine AS engine, t.model AS model, \
t.reasoning AS reasoning, t.answer AS answer, t.status AS status, t.trace_kind AS trace_kind, t.raw AS raw, \
t.finish_reason AS finish_reason, t.sample_index AS sample_index, t.sampling AS sampling, t.cost_usd AS cost_usd, \
t.elapsed_s AS elapsed_s, t.parent_id AS parent_id, t.rewrite AS rewrite, coalesce(p.source, t.source) AS source, \
t.terms AS terms, t.asked AS asked, t.thinks AS thinks, t.prompt_tokens AS prompt_tokens, \
t.completion_tokens AS completion_tokens, t.reasoning_tokens AS reasoning_tokens, t.cached_tokens AS cached_tokens, \
t.usage_estimated AS usage_estimated, t.cache_write_tokens AS cache_write_tokens, t.created_at AS created_at, \
p.question AS question, p.reference AS reference, p.original AS original, p.licence AS licence, \
from_json(json_merge_patch(if(json_valid(p.metadata), p.metadata, '{}'), coalesce(l.own, '{}')),
                '"MAP(VARCHAR, VARCHAR)"') AS labels, g.score AS score, g.grade_reason AS grade_reason, \
g.extracted AS extracted
        FROM traces t
        LEFT JOIN prompts p ON p.seq = t.prompt_seq
        LEFT JOIN (
            SELECT trace_seq, min(score) AS score, arg_min(reason, score) AS grade_reason,
                arg_min(extracted, score) AS extracted
            FROM grades  GROUP BY trace_seq
        ) g ON g.trace_seq = t.seq
        LEFT JOIN (SELECT subject_id, json_group_object(name, value) AS own FROM labels  GROUP BY subject_id) l
            ON l.subject_id = t.prompt_id
        )""",
        ),
    ),
    Migration(
        # An old verdict was called `math@2`; one of a rewrite on what it made `summarize@1`, with the engine that wrote
        # behind a slash. Labels had no version: 0 is older than any.
        "facts and replies",
        (
            f"""CREATE TABLE facts (
                trace_seq BIGINT, prompt_seq BIGINT, subject_id VARCHAR NOT NULL, member VARCHAR NOT NULL,
                version BIGINT NOT NULL, variant VARCHAR NOT NULL, kind VARCHAR NOT NULL, number DOUBLE, text {_TEXT},
                passed BOOLEAN, metrics MAP(VARCHAR, DOUBLE), reason {_TEXT}, extracted {_TEXT},
                created_at TIMESTAMP)""",
            """INSERT INTO facts BY NAME
                SELECT g.trace_seq, g.trace_id AS subject_id, if(n.member = '', g.grader, n.member) AS member,
                    coalesce(TRY_CAST(n.version AS BIGINT), 0) AS version, if(n.member = '', '', n.variant) AS variant,
                    if(starts_with(coalesce(t.rewrite, '') || '/', g.grader || '/'), 'rewrite', 'grade') AS kind,
                    g.score AS number, g.score >= 1 AS passed, MAP {}::MAP(VARCHAR, DOUBLE) AS metrics,
                    coalesce(g.reason, '') AS reason, coalesce(g.extracted, '') AS extracted,
                    coalesce(t.created_at, TIMESTAMP '1970-01-01') AS created_at
                FROM (SELECT *, regexp_extract(grader, '^([^/]+)@([0-9]{1,9})(?:/(.*))?$',
                    ['member', 'version', 'variant'], 's') AS n FROM grades) g LEFT JOIN traces t ON t.seq = g.trace_seq
                ORDER BY g.trace_seq""",
            """INSERT INTO facts BY NAME
                SELECT t.seq AS trace_seq, if(t.seq IS NULL, p.seq, NULL) AS prompt_seq, l.subject_id, l.name AS member,
                    0 AS version, '' AS variant, 'label' AS kind, TRY_CAST(l.value AS DOUBLE) AS number,
                    if(TRY_CAST(l.value AS DOUBLE) IS NULL, l.value, NULL) AS text,
                    MAP {}::MAP(VARCHAR, DOUBLE) AS metrics, '' AS reason, '' AS extracted,
                    coalesce(t.created_at, p.created_at, TIMESTAMP '1970-01-01') AS created_at
                FROM labels l LEFT JOIN prompts p ON p.id = l.subject_id LEFT JOIN traces t ON t.id = l.subject_id
                WHERE p.seq IS NOT NULL OR t.seq IS NOT NULL
                ORDER BY p.seq""",
            """CREATE TABLE fact_columns (
                member VARCHAR, version BIGINT, variant VARCHAR, kind VARCHAR, metric VARCHAR, is_text BOOLEAN,
                of_prompts BOOLEAN)""",
            """INSERT INTO fact_columns
                SELECT DISTINCT member, version, variant, kind, '', text IS NOT NULL, trace_seq IS NULL FROM facts""",
            "DROP TABLE grades",
            "DROP TABLE labels",
            f"""CREATE TABLE replies (
                id VARCHAR NOT NULL, attempt BIGINT NOT NULL, engine VARCHAR, model VARCHAR, status VARCHAR,
                cost_usd DOUBLE, prompt_tokens BIGINT, completion_tokens BIGINT, elapsed_s DOUBLE, reply {_TEXT},
                created_at TIMESTAMP)""",
        ),
    ),
    Migration(
        # `uncovered` has a row where the store holds what came before journals of everything (`store.covering`).
        "journals of everything",
        (
            "ALTER TABLE journal_offsets ADD COLUMN closed_bytes BIGINT",
            "ALTER TABLE journal_offsets ADD COLUMN open_bytes BIGINT",
            "ALTER TABLE journal_offsets ADD COLUMN last_at DOUBLE",
            "ALTER TABLE replies ADD COLUMN about VARCHAR DEFAULT ''",
            "CREATE TABLE forgotten (id VARCHAR, said_at TIMESTAMP)",
            "CREATE TABLE uncopied (file VARCHAR, id VARCHAR)",
            "UPDATE traces SET cache_write_tokens = 0 WHERE cache_write_tokens IS NULL",
            "CREATE TABLE uncovered (since TIMESTAMP)",
            """INSERT INTO uncovered SELECT current_localtimestamp()
                WHERE EXISTS (FROM prompts) OR EXISTS (FROM traces) OR EXISTS (FROM selections)""",
        ),
    ),
    Migration("calls of tools", (f"ALTER TABLE traces ADD COLUMN tool_calls {_TEXT} DEFAULT '[]'",)),
    Migration("columns of what a person says", ()),
    # A turn of `messages` and `asked` is a list of two texts; one that has to do with tools has an object behind them.
    Migration("turns of tools", ()),
    Migration("calls under a name that no grader has", ()),
)


def _with_view(steps: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """The steps, of which the last makes the public view as it is now."""
    view = f"CREATE VIEW trace_view AS SELECT {', '.join(VIEW_COLUMNS)} FROM ({view_sql(ANYBODY, windowed=False)})"
    *before, last = steps
    return (*before, Migration(last.name, ("DROP VIEW IF EXISTS trace_view", *last.statements, view)))


MIGRATIONS = _with_view(_STEPS)


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
