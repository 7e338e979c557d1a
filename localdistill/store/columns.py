"""The columns of the public view `trace_view`: those of a trace and its prompt, what the facts come to, and one for
each member that said something and each of its metrics. A reading joins the facts only for the columns that it names.

Whose facts count follows a scope: those of the members that a recipe names. Without one (for whoever browses) every
member counts with its newest version. A judgement outranks graders; what a rewrite says of its own trace always counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from localdistill.core.errors import UsageError, nearest
from localdistill.core.judgements import FAVOURITE, TAG
from localdistill.core.records import PERSON, FactScope
from localdistill.store.raw_text import unpacked_sql
from localdistill.store.rows import (
    FACT_TABLE,
    FLAG,
    LABELS,
    PROMPT_TABLE,
    TEXT,
    TEXTS,
    TRACE_TABLE,
    Kind,
    storable,
)  # fmt: skip

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_RANK = "CASE kind WHEN 'judgement' THEN number - 2 WHEN 'label' THEN NULL ELSE number END"
"""The lowest decides: scores lie between 0 and 1, so a judgement stands below every one of them."""
_ALWAYS = "kind IN ('judgement', 'rewrite', 'published')"
"""Facts that count in every scope."""
_DECIDED = {
    "score": f"arg_min(number, {_RANK})", "grade_reason": f"arg_min(reason, {_RANK})",
    "extracted": f"arg_min(extracted, {_RANK})",
}  # fmt: skip
"""Columns of the fact that decides."""
_BY_PERSON = f"FILTER (WHERE member = '{PERSON[0]}')"
_MARKED = {
    "favourite": f"bool_or(metrics['{FAVOURITE}'] > 0) {_BY_PERSON}",
    "tags": f"first([name[{len(TAG) + 1}:] FOR name IN map_keys(metrics) IF starts_with(name, '{TAG}')]) {_BY_PERSON}",
    "note": f"first(reason) {_BY_PERSON}",
}  # fmt: skip
"""Columns of what a person says beside the verdict."""
_SAID = """coalesce(text, if(number = floor(number) AND abs(number) < 1e15, number::BIGINT::VARCHAR,
    number::VARCHAR))"""
"""A value as text; 3 and not 3.0."""


@dataclass(frozen=True)
class ViewColumn:
    """One column of `trace_view`."""

    sql: str
    kind: Kind
    is_listed: bool = True
    """Short enough to stand in a list of traces."""


_SEEN_AS = {"id": "trace_id", "tool_calls": "calls"}
"""Columns of traces that the view calls otherwise: a prompt has an id too, and a grader is called `tool_calls`."""


def _of_traces() -> dict[str, ViewColumn]:
    """Every column of the traces under its own name, but for those of `_SEEN_AS`."""
    found = {_SEEN_AS.get(name, name): ViewColumn(f"t.{name}", kind, not kind.is_long)
             for name, kind in TRACE_TABLE.items()}
    return {**found, "raw": replace(found["raw"], sql=unpacked_sql("t.raw", "t.reasoning", "t.answer"))}


_OF_PROMPTS = {name: ViewColumn(f"p.{name}", PROMPT_TABLE[name], name != "original")
               for name in ("question", "reference", "original", "licence")}
_LABELS = """from_json(json_merge_patch(if(json_valid(p.metadata), p.metadata, '{}'), coalesce(l.own, '{}')),
                '"MAP(VARCHAR, VARCHAR)"')"""

VIEW: Mapping[str, ViewColumn] = {
    **_of_traces(), **_OF_PROMPTS,
    "source": ViewColumn("coalesce(p.source, t.source)", TEXT),
    "labels": ViewColumn(_LABELS, LABELS),
    "score": ViewColumn("f.score", FACT_TABLE["number"]),
    "grade_reason": ViewColumn("f.grade_reason", FACT_TABLE["reason"]),
    "extracted": ViewColumn("f.extracted", FACT_TABLE["extracted"]),
    "favourite": ViewColumn("coalesce(f.favourite, false)", FLAG),
    "tags": ViewColumn("coalesce(f.tags, [])", TEXTS),
    "note": ViewColumn("coalesce(f.note, '')", TEXT),
}  # fmt: skip
"""The columns that every store has: what filters and conditions of users may name beside those of facts. `labels` holds
what else is known of the prompt, by name: its metadata, and over it the labels of it. `favourite`, `tags` and `note`
are a person's, and never unknown: what nobody marked has no mark."""

VIEW_COLUMNS = tuple(VIEW)
LONG_COLUMNS = tuple(name for name, column in VIEW.items() if column.kind.is_long)
"""The columns of `trace_view` whose texts may be long."""
_ASKED = frozenset({*_OF_PROMPTS, "source"})


@dataclass(frozen=True)
class FactColumn:
    """A column that facts make: what a member says, or one of its metrics."""

    by: str
    metric: str = ""
    """Empty for the value."""
    is_text: bool = False
    of_prompts: bool = False
    of_traces: bool = False

    @property
    def kind(self) -> Kind:
        """How its cells are kept."""
        return FACT_TABLE["text" if self.is_text else "number"]

    @property
    def sql(self) -> str:
        """Of all facts of one trace or prompt: the one that was stored last, where variants stand side by side."""
        value = f"metrics[{quoted(self.metric)}]" if self.metric else _SAID if self.is_text else "number"
        return f"arg_max({value}, created_at) FILTER (WHERE member = {quoted(self.by)})"


@dataclass(frozen=True)
class FactView:
    """Whose facts a reading sees, and what it may name of them."""

    scope: FactScope | None = None
    columns: Mapping[str, FactColumn] = field(default_factory=dict)
    has_older: bool = True
    """Some member has facts of more than one version."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that can be named."""
        return (*VIEW_COLUMNS, *self.columns)

    def kind(self, name: str) -> Kind:
        """How the cells of a column are kept."""
        return VIEW[name].kind if name in VIEW else self.columns[name].kind

    def check(self, names: Collection[str]) -> None:
        """UsageError for a column that the view does not have."""
        for name in names:
            if name not in self.names:
                raise no_column(name, self.names)

    def named_in(self, text: str) -> list[str]:
        """The columns that SQL may speak of: those whose names are in it, all when it can name them otherwise."""
        words = {word.lower() for word in re.findall(r"\w+", text)}
        return [name for name in self.names if name in words or words & {"columns", "trace_view"}]


ANYBODY = FactView()
"""Every member in its newest version, no columns of their own."""


def no_column(name: str, known: Collection[str]) -> UsageError:
    """The error for a column that there is not."""
    return UsageError(f"trace_view has no column '{name}'{nearest(name, known)}", f"known: {', '.join(known)}")


def facts_seen(con: DuckDBPyConnection, scope: FactScope | None = None) -> FactView:
    """What a reading within `scope` sees of the facts that are stored."""
    rows = con.execute("SELECT member, version, variant, kind, metric, is_text, of_prompts FROM fact_columns "
                       "ORDER BY member, metric").fetchall()
    wanted = None if scope is None else {(storable(by), version, storable(variant)) for by, version, variant in scope}
    columns: dict[str, FactColumn] = {}
    versions: dict[str, set[int]] = {}
    for by, version, variant, kind, metric, is_text, of_prompts in rows:
        versions.setdefault(by, set()).add(version)
        name = f"{by}_{metric}" if metric else by
        if (by == PERSON[0] and metric) or name in VIEW or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            continue
        if wanted is None or kind in ("judgement", "published") or (by, version, variant) in wanted:
            known = columns.get(name, FactColumn(by, metric))
            columns[name] = FactColumn(by, metric, known.is_text or is_text, known.of_prompts or of_prompts,
                                       known.of_traces or not of_prompts)
    return FactView(scope, columns, any(len(found) > 1 for found in versions.values()))


def view_sql(facts: FactView, windowed: bool = True, named: Collection[str] = VIEW_COLUMNS) -> str:
    """The query behind `trace_view`, with `seq` in front.

    `windowed` limits it to `seq BETWEEN $low AND $high`; the prompts of those traces are all `BETWEEN $first AND $last`
    (without that, the texts of all prompts are decoded for every window). Only columns that are `named` are there: each
    costs time to plan, some a join, and there are many windows.
    """
    said = {name: column for name, column in facts.columns.items() if name in named}
    columns = {name: column.sql for name, column in VIEW.items() if name in named}
    columns |= {name: _said_where(name, column) for name, column in said.items()}
    of_traces = {name: sql for name, sql in {**_DECIDED, **_MARKED}.items() if name in named}
    of_traces |= {name: column.sql for name, column in said.items() if column.of_traces}
    of_prompts = {name: column.sql for name, column in said.items() if column.of_prompts}
    traces = "WHERE t.seq BETWEEN $low AND $high" if windowed else ""
    prompts = "(SELECT * FROM prompts WHERE seq BETWEEN $first AND $last)" if windowed else "prompts"
    windows = ("BETWEEN $low AND $high", "BETWEEN $first AND $last") if windowed else ("IS NOT NULL",) * 2
    joins = []
    if not {"labels", *_ASKED}.isdisjoint(named):
        joins.append(f"LEFT JOIN {prompts} p ON p.seq = t.prompt_seq")
    if of_traces:
        joins.append(f"LEFT JOIN ({_facts_of('trace_seq', windows[0], of_traces, facts, said)}) f "
                     "ON f.trace_seq = t.seq")
    if of_prompts:
        joins.append(f"LEFT JOIN ({_facts_of('prompt_seq', windows[1], of_prompts, facts, said)}) q "
                     "ON q.prompt_seq = t.prompt_seq")
    if "labels" in named:
        joins.append(f"LEFT JOIN ({_labels(windows[1])}) l ON l.prompt_seq = t.prompt_seq")
    return f"""
        SELECT {", ".join(("t.seq", *(f"{sql} AS {name}" for name, sql in columns.items())))}
        FROM traces t
        {" ".join(joins)}
        {traces}"""


def scores_sql(facts: FactView, window: str) -> str:
    """(trace_seq, score) of the traces whose `trace_seq` is in `window`, which begins with an operator."""
    return _facts_of("trace_seq", window, {"score": _DECIDED["score"]}, facts, {})


def _said_where(name: str, column: FactColumn) -> str:
    places = [place for place, is_there in (("f", column.of_traces), ("q", column.of_prompts)) if is_there]
    return f"coalesce({', '.join(f'{place}.{name}' for place in places)})"


def _facts_of(place: str, window: str, columns: Mapping[str, str], facts: FactView,
              said: Mapping[str, FactColumn]) -> str:
    """`columns` of the facts that count, by trace or by prompt (`place`)."""
    wanted = [f"member = {quoted(by)}" for by in sorted({column.by for column in said.values()})]
    if not _DECIDED.keys().isdisjoint(columns):
        wanted.append("kind <> 'label'")
    if not _MARKED.keys().isdisjoint(columns):
        wanted.append(f"member = '{PERSON[0]}'")
    where = [f"{place} {window}", f"({' OR '.join(wanted)})"]
    if facts.scope is not None:
        where.append(f"({_ALWAYS} OR {within(facts.scope)})")
    newest = (f" QUALIFY version = max(version) OVER (PARTITION BY {place}, member)"
              if facts.scope is None and facts.has_older else "")
    return (f"SELECT {place}, {', '.join(f'{sql} AS {name}' for name, sql in columns.items())} "
            f"FROM (SELECT * FROM facts WHERE {' AND '.join(where)}{newest}) GROUP BY {place}")


def _labels(window: str) -> str:
    return f"""SELECT prompt_seq, json_group_object(member, said) AS own FROM (
        SELECT prompt_seq, member, arg_max({_SAID}, version) AS said FROM facts
        WHERE prompt_seq {window} AND kind = 'label' GROUP BY prompt_seq, member) GROUP BY prompt_seq"""


def verdicts_sql(key: str, facts: str, scope: FactScope | None = None) -> str:
    """(key, right) of what was found right or wrong: by a person, else by every member of `scope` that decided.
    facts: what follows FROM, with `key` in it and a WHERE at its end."""
    newest = "" if scope is not None else f"QUALIFY version = max(version) OVER (PARTITION BY {key}, member)"
    return (f"SELECT {key}, coalesce(bool_and(passed) FILTER (WHERE kind = 'judgement'), bool_and(passed)) AS is_right "
            f"FROM (SELECT {key}, member, version, kind, passed FROM {facts} AND kind <> 'label' "
            f"AND ({within(scope)} OR kind <> 'grade') {newest}) GROUP BY {key}")


def within(scope: FactScope | None) -> str:
    """The condition that a fact is one of `scope`; any is without one."""
    if scope is None:
        return "true"
    keys = [f"(member = {quoted(by)} AND version = {int(version)} AND variant = {quoted(variant)})"
            for by, version, variant in scope]
    return f"({' OR '.join(keys) or 'false'})"


def quoted(text: str) -> str:
    """`text` as it stands in SQL."""
    return "'" + storable(text).replace("'", "''") + "'"
