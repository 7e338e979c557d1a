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
from localdistill.store.rows import moment
from localdistill.store.tables import prompt_table, require_storable, size_of, trace_table
from localdistill.store.writing import (
    Said,
    adopt_traces,
    insert_prompts,
    insert_replies,
    insert_traces,
    know_fact_columns,
    new_rows,
    subjects_of,
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
    unplaced: list[Said]
    """Facts of what is not stored."""


@dataclass
class Part:
    """Some lines, as the records that they hold with the times when they were said."""

    prompts: list[tuple[Prompt, datetime]] = field(default_factory=list)
    traces: list[tuple[Trace, datetime]] = field(default_factory=list)
    facts: list[Said] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    """To questions of members."""
    later: list[Line] = field(default_factory=list)
    size: int = 0
    """Characters of text, about."""

    def take(self, line: Line, said_at: float | None = None) -> str:
        """Add one line that was said at a time; the id of the trace that it holds, else nothing. Raises one of DAMAGED
        for what is no line of ours."""
        at, kind = moment(said_at), line.get("kind")
        if "trace" in line:
            trace = trace_from_json(line["trace"])
            facts = facts_beside(line, trace)
            require_storable(trace)
            self.traces.append((trace, at))
            self.facts += in_turn(facts, at)
            self.size += size_of(trace)
            return trace.id
        if kind == "prompt":
            prompt = prompt_from_json(line["prompt"])
            require_storable(prompt)
            self.prompts.append((prompt, at))
            self.size += size_of(prompt)
        elif "reply" in line:
            self.replies.append(row := reply_row(line, at))
            self.size += len(row["reply"])
        elif "facts" in line:
            self.facts += in_turn([fact_from_json(data) for data in line["facts"]], at)
        elif kind in _LATER:
            self.later.append({**line, "at": said_at})
        return ""

    @property
    def is_full(self) -> bool:
        """One session can write it, or what follows may depend on what it does."""
        rows = max(len(self.prompts), len(self.traces), len(self.facts), len(self.replies))
        return rows >= BORDERS.batch_rows or self.size >= BORDERS.batch_bytes or bool(self.later)

    def store(self, con: DuckDBPyConnection) -> PartStored:
        """Store the records and do the rest, in a transaction of the caller. What is there stays; of two facts of one
        member the newer one does."""
        prompts = new_rows(con, "prompts", prompt_table([one for one, _ in self.prompts]) if self.prompts else None)
        insert_prompts(con, prompts, [self.prompts[place][1] for place in prompts.places])
        traces = new_rows(con, "traces", trace_table([one for one, _ in self.traces]) if self.traces else None)
        insert_traces(con, traces, [self.traces[place][1] for place in traces.places], prompts)
        insert_replies(con, self.replies)
        unplaced = upsert_facts(con, self.facts, subjects_of(con, (fact for fact, _ in self.facts), prompts, traces),
                                keep_newer=True)
        for line in self.later:
            carry_out(con, line)
        return PartStored(list(traces.ids), unplaced)


def in_turn(facts: Iterable[Fact], at: datetime) -> list[Said]:
    """Facts that were said one after the other, from `at` on: which of them was the last stays known."""
    return [(fact, at + timedelta(microseconds=place)) for place, fact in enumerate(facts)]
