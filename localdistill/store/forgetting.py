"""What is not to be in the store any more, and what never came into a journal: two kinds of marks, and what they do.
Marks hold names only, none of the text that was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import UsageError
from localdistill.core.records import Prompt, Trace
from localdistill.store.rows import MESSAGES, moment, restored, storable
from localdistill.store.writing import asked_name, forgotten_ids, incoming_ids

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Line = dict[str, Any]
_MADE_OF_THEM = """SELECT id FROM prompts ANTI JOIN incoming USING (id)
    WHERE contains(metadata, '"made_from"') AND json_valid(metadata) AND EXISTS (
        SELECT 1 FROM incoming
        WHERE list_contains(from_json(json_extract(prompts.metadata, '$.made_from'), '["VARCHAR"]'), incoming.id))"""
"""Prompts that an augmentation made of these, or was shown them for."""


@dataclass(frozen=True)
class Names:
    """What is forgotten, by names that tell nothing of it."""

    prompts: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    """Answers to them, and what was rewritten of those."""
    questions: tuple[str, ...] = ()
    """Ids by which evaluations asked about them as items."""
    asked: tuple[str, ...] = ()
    """What the prompts ask, whatever their references (`writing.asked_name`)."""

    @cached_property
    def all(self) -> frozenset[str]:
        """Every name."""
        return frozenset((*self.prompts, *self.traces, *self.questions, *self.asked))

    def line(self) -> Line:
        """The line of a journal that says so."""
        return {"kind": "forgotten", "prompts": list(self.prompts), "traces": [*self.traces, *self.questions],
                "asked": list(self.asked)}

    def bars(self, record: Prompt | Trace) -> bool:
        """Whether this prompt or trace is forgotten."""
        if not self.all:
            return False
        if record.id in self.all:
            return True
        other = record.prompt_id if isinstance(record, Trace) else asked_name(MESSAGES.store(record.messages))
        return other in self.all

    def without(self, line: Line | None) -> Line | None:
        """A line of a journal without them: None where nothing of it is left. A line that cannot be read may be about
        any of them, and goes."""
        if line is None:
            return None
        trace, prompt = line.get("trace"), line.get("prompt")
        subjects = [trace.get("id"), trace.get("prompt_id")] if isinstance(trace, dict) else [
            prompt.get("id") if isinstance(prompt, dict) else prompt, line.get("about"), line.get("request")]
        if line.get("kind") == "forgotten":
            return line
        if any(isinstance(one, str) and one in self.all for one in subjects):
            return None
        if isinstance(facts := line.get("facts"), list):
            kept = [fact for fact in facts if not (isinstance(fact, dict) and fact.get("subject_id") in self.all)]
            if len(kept) < len(facts):
                return {**line, "facts": kept} if kept or "trace" in line else None
        return line


def names_of(con: DuckDBPyConnection, what: str) -> Names:
    """All that goes with a prompt (the beginning of its id, or of the id of a trace of it), or with a source: prompts
    that ask the very same, those that were made of them, all answers, and what was rewritten of those. None of it where
    nothing fits."""
    prompts, traces = _column(con, "SELECT id FROM prompts WHERE source = $what", what=storable(what)), list[str]()
    if not prompts:
        traces = _column(con, "SELECT id FROM traces WHERE source = $what", what=storable(what))
    if not (prompts or traces):
        starts = "starts_with(id, $what) OR starts_with(id, 'b2:' || $what)"
        prompts = _column(con, f"SELECT id FROM prompts WHERE {starts} UNION "
                               f"SELECT prompt_id FROM traces WHERE {starts}", what=storable(what))
        if len(prompts) > 1 and what not in prompts:
            raise UsageError(f"several prompts start with '{what}'", "give more of the id")
    with incoming_ids(con, prompts):
        prompts += _column(con, "SELECT id FROM prompts ANTI JOIN incoming USING (id) WHERE messages IN "
                                "(SELECT messages FROM prompts SEMI JOIN incoming USING (id))")
    with incoming_ids(con, prompts):
        prompts += _column(con, _MADE_OF_THEM)
    with incoming_ids(con, prompts):
        traces += _column(con, "SELECT id FROM traces WHERE prompt_id IN (SELECT id FROM incoming)")
        cells = _column(con, "SELECT messages FROM prompts SEMI JOIN incoming USING (id)")
    found = newest = list(dict.fromkeys(traces))
    while newest:
        with incoming_ids(con, newest):
            made = _column(con, "SELECT id FROM traces WHERE parent_id IN (SELECT id FROM incoming)")
        known = set(found)
        newest = [one for one in made if one not in known]
        found = [*found, *newest]
    return Names(tuple(prompts), tuple(found), (), tuple(dict.fromkeys(map(asked_name, cells))))


def texts_of(con: DuckDBPyConnection, names: Names, most: int) -> list[str]:
    """Texts of at most `most` of these prompts and traces, to look for what is left of them."""
    found = list[str]()
    for table, columns, ids in (("prompts", ("question", "reference", "original"), names.prompts),
                                ("traces", ("reasoning", "answer"), names.traces)):
        with incoming_ids(con, ids[:most]):
            rows = con.execute(f"SELECT {', '.join(columns)} FROM {table} SEMI JOIN incoming USING (id)").fetchall()
        found += [restored(text) for row in rows for text in row if text]
    return found


def datasets_with(con: DuckDBPyConnection, names: Names) -> list[str]:
    """Digests of the datasets that were made of them."""
    with incoming_ids(con, names.traces):
        return _column(con, "SELECT DISTINCT dataset FROM examples WHERE trace_id IN (SELECT id FROM incoming) "
                            "ORDER BY 1")


def replies_about(con: DuckDBPyConnection, names: Names) -> int:
    """How many replies to questions of members are about them."""
    with incoming_ids(con, [*names.prompts, *names.traces, *names.questions]):
        return len(_column(con, "SELECT about FROM replies WHERE about IN (SELECT id FROM incoming)"))


def barred(con: DuckDBPyConnection) -> Names:
    """All that was ever forgotten here."""
    return Names(traces=tuple(sorted(forgotten_ids(con))))


def _column(con: DuckDBPyConnection, sql: str, **values: str) -> list[str]:
    return [row[0] for row in con.execute(sql, values).fetchall()]


def put_forgotten(con: DuckDBPyConnection, line: Line) -> None:
    """Remove prompts and traces with everything that is said of them, and let them never be stored again."""
    ids = list(dict.fromkeys([*line["prompts"], *line["traces"], *line["asked"]]))
    with incoming_ids(con, ids):
        con.execute("INSERT INTO forgotten (id, said_at) SELECT id, ? FROM incoming ANTI JOIN forgotten USING (id)",
                    [moment(line["at"])])
        con.execute("DELETE FROM facts WHERE subject_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM replies WHERE about IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM selection_traces WHERE trace_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM examples WHERE trace_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM claims WHERE id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM traces WHERE id IN (SELECT id FROM incoming) "
                    "OR prompt_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM prompts WHERE id IN (SELECT id FROM incoming)")


def uncopied_line(file: str, ids: Sequence[str]) -> Line:
    """That prompts or traces were imported without a copy: only the store holds them."""
    return {"kind": "uncopied", "file": file, "ids": list(ids)}


def put_uncopied(con: DuckDBPyConnection, line: Line) -> None:
    """Remember what was imported without a copy."""
    with incoming_ids(con, line["ids"]):
        con.execute("INSERT INTO uncopied (file, id) SELECT ?, id FROM incoming ANTI JOIN uncopied USING (id)",
                    [storable(line["file"])])


def lost_uncopied(con: DuckDBPyConnection) -> dict[str, int]:
    """Of what was imported without a copy: how much is gone, by file."""
    rows = con.execute("SELECT file, count(*) FROM uncopied ANTI JOIN traces USING (id) ANTI JOIN prompts USING (id) "
                       "ANTI JOIN forgotten USING (id) GROUP BY file ORDER BY file").fetchall()
    return {restored(file): count for file, count in rows}
