"""What a line of a journal says, and what it comes to in the store. Whatever is stored is a line first; each kind of
line has its builder here and its place in `Part`, and nothing else knows how lines look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.store import selections
from localdistill.store.forgetting import put_forgotten, put_uncopied
from localdistill.store.json_forms import (
    fact_from_json,
    fact_to_json,
    facts_beside,
    prompt_from_json,
    prompt_to_json,
    trace_from_json,
    trace_to_json,
)
from localdistill.store.replies import reply_row
from localdistill.store.rows import fact_row, moment, prompt_row, size_of, trace_row
from localdistill.store.writing import (
    adopt_traces,
    insert_prompts,
    insert_replies,
    insert_traces,
    know_fact_columns,
    new_rows,
    upsert_facts,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Line = dict[str, Any]
"""A line's record. `at`: seconds since the epoch when it was said, where it stands alone; see `moment_line`."""


def said_now(line: Line) -> Line:
    """The line with the time."""
    return {"kind": line["kind"], "at": round(time.time(), 6), **line}


def moment_line(at: float) -> Line:
    """When the lines behind it were said."""
    return {"kind": "moment", "at": at}


def prompt_line(prompt: Prompt) -> Line:
    """A prompt."""
    return {"kind": "prompt", "prompt": prompt_to_json(prompt)}


def trace_line(trace: Trace, facts: Iterable[Fact] = ()) -> Line:
    """A trace with what is said of it."""
    return {"kind": "trace", "trace": trace_to_json(trace), "facts": [fact_to_json(fact) for fact in facts]}


def facts_line(facts: Iterable[Fact]) -> Line:
    """Facts of traces or prompts that are known."""
    return {"kind": "facts", "facts": [fact_to_json(fact) for fact in facts]}


def columns_line(columns: Sequence[Mapping[str, Any]]) -> Line:
    """Columns of members that have not said anything yet."""
    return {"kind": "columns", "columns": list(columns)}


def adoption_line(prompts: Mapping[str, str]) -> Line:
    """Prompts of traces that had none: trace id -> prompt id."""
    return {"kind": "adopted", "prompts": dict(prompts)}


_LATER: Mapping[str, Callable[[DuckDBPyConnection, Line], None]] = {
    "columns": lambda con, line: know_fact_columns(con, line["columns"]),
    "adopted": lambda con, line: adopt_traces(
        con, [{"trace_id": trace, "prompt_id": prompt} for trace, prompt in line["prompts"].items()]),
    "selected": selections.put_selected,
    "selection": selections.put_selection,
    "lineage": selections.put_lineage,
    "uncopied": put_uncopied,
    "forgotten": put_forgotten,
}
"""Kinds of lines that are not rows of a table: what each does. They are carried out after the rows of their part."""


def carry_out(con: DuckDBPyConnection, line: Line) -> None:
    """Do what a line says that is no row of a table."""
    _LATER[line["kind"]](con, line)


KINDS = ("prompt", "trace", "facts", "reply", *_LATER)
DAMAGED = (TypeError, KeyError, ValueError, AttributeError, RecursionError, OverflowError)
"""What a line raises that holds something else than it should."""


@dataclass(frozen=True)
class PartStored:
    """What storing a part did."""

    traces: list[str]
    """The ids that were new."""
    unplaced: list[dict[str, Any]]
    """Facts of what is not stored."""


@dataclass
class Part:
    """Some lines, as the rows that they come to."""

    prompts: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    """To questions of members."""
    later: list[Line] = field(default_factory=list)
    size: int = 0
    """Bytes of text, about."""

    def take(self, line: Line, said_at: float | None = None) -> str:
        """Add one line that was said at a time; the id of the trace that it holds, else nothing. Raises one of DAMAGED
        for what is no line of ours."""
        at, kind = moment(said_at), line.get("kind")
        if "trace" in line:
            trace = trace_from_json(line["trace"])
            facts = facts_beside(line, trace)
            self._add(self.traces, trace_row(trace, at))
            self._add_facts(facts, at)
            return trace.id
        if kind == "prompt":
            self._add(self.prompts, prompt_row(prompt_from_json(line["prompt"]), at))
        elif "reply" in line:
            self._add(self.replies, reply_row(line, at))
        elif "facts" in line:
            self._add_facts([fact_from_json(data) for data in line["facts"]], at)
        elif kind in _LATER:
            self.later.append({**line, "at": said_at})
        return ""

    def _add(self, rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
        rows.append(row)
        self.size += size_of(row)

    def _add_facts(self, facts: Iterable[Fact], at: datetime) -> None:
        self.facts += fact_rows(facts, at)

    @property
    def is_full(self) -> bool:
        """One session can write it, or what follows may depend on what it does."""
        rows = max(len(self.prompts), len(self.traces), len(self.facts), len(self.replies))
        return rows >= BORDERS.batch_rows or self.size >= BORDERS.batch_bytes or bool(self.later)

    def store(self, con: DuckDBPyConnection) -> PartStored:
        """Store the rows and do the rest, in a transaction of the caller. What is there stays; of two facts of one
        member the newer one does."""
        insert_prompts(con, new_rows(con, "prompts", self.prompts))
        traces = new_rows(con, "traces", self.traces)
        insert_traces(con, traces)
        insert_replies(con, self.replies)
        unplaced = upsert_facts(con, self.facts, keep_newer=True)
        for line in self.later:
            carry_out(con, line)
        return PartStored([row["id"] for row in traces], unplaced)


def fact_rows(facts: Iterable[Fact], at: datetime) -> list[dict[str, Any]]:
    """The rows of facts that were said one after the other, from `at` on: which of them was the last stays known."""
    return [fact_row(fact, at + timedelta(microseconds=place)) for place, fact in enumerate(facts)]
