"""How many verdicts each grader gave by each rule that its reasons name, and how many of them another version of it had
given otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localdistill.store.rows import restored
from localdistill.store.session import Sessions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COUNTS = """
    SELECT member, version, if(contains(reason, ':'), split_part(reason, ':', 1), '') AS rules,
        count(*) FILTER (WHERE passed), count(*) FILTER (WHERE NOT passed), count(*) FILTER (WHERE passed IS NULL),
        count(*) FILTER (WHERE older IS NOT NULL AND passed AND before IS DISTINCT FROM true),
        count(*) FILTER (WHERE older IS NOT NULL AND before AND passed IS DISTINCT FROM true)
    FROM (
        SELECT member, version, reason, passed, lag(passed) OVER own AS before, lag(version) OVER own AS older
        FROM facts WHERE kind = 'grade' AND trace_seq IS NOT NULL
        WINDOW own AS (PARTITION BY trace_seq, member, variant ORDER BY version)
        QUALIFY version = max(version) OVER (PARTITION BY trace_seq, member)
    ) GROUP BY ALL ORDER BY member, version, count(*) DESC, rules"""


@dataclass(frozen=True)
class VerdictCount:
    """The verdicts of one grader whose reasons open with the same rules."""

    grader: str
    version: int
    rules: str
    """Names of rules with commas between them; empty where the reasons name none."""
    right: int
    wrong: int
    undecided: int
    now_right: int
    """Of the right ones, those that the version before did not find right."""
    not_right_any_more: int
    """Of the others, those that it had found right."""


def verdict_counts(sessions: Sessions) -> list[VerdictCount]:
    """Of every grader in its newest version, the most frequent rules first."""

    def work(con: DuckDBPyConnection) -> list[VerdictCount]:
        rows = con.execute(_COUNTS).fetchall()
        return [VerdictCount(restored(member), version, restored(rules or ""), *counts)
                for member, version, rules, *counts in rows]

    return sessions.run(work)
