"""The way into the store of whatever is stored directly: it is a line in the store's own journal, on disk, before it
is a row. What engines tell runs has journals of its own, which `store.journals` takes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError
from localdistill.core.facts import FactMaker
from localdistill.core.records import Fact, FactKey, Prompt, Trace
from localdistill.safety.frames import FAST, SMALL, Reading
from localdistill.safety.journal import parts_of, read_lines
from localdistill.safety.record_lines import decode, encode
from localdistill.store import selections
from localdistill.store.columns import within
from localdistill.store.covering import cover
from localdistill.store.forgetting import uncopied_line
from localdistill.store.journals import FIRST
from localdistill.store.json_forms import fact_from_json
from localdistill.store.lines import (
    DAMAGED,
    Line,
    adoption_line,
    carry_out,
    columns_line,
    in_turn,
)
from localdistill.store.many_lines import facts_line, prompt_lines, trace_lines
from localdistill.store.own_journal import OwnJournal
from localdistill.store.rows import FACT_COLUMNS, fact_of, moment, storable
from localdistill.store.session import Sessions, transaction
from localdistill.store.tables import prompt_table, trace_table
from localdistill.store.writing import (
    Subjects,
    TableName,
    batched,
    chunked,
    insert_prompts,
    insert_traces,
    new_columns,
    new_rows,
    seqs_of,
    subjects_of,
    upsert_facts,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

T = TypeVar("T")
_NAME_CHARS = 100


def own_path(store: Path) -> Path:
    """The journal of what is stored directly in the store at `store`."""
    return store.parent / "journals" / f"{store.stem}.jsonl"


@dataclass(frozen=True)
class Added:
    """How many were new."""

    prompts: int
    traces: int


class Keeper:
    """Stores what it is given, journalled first."""

    def __init__(self, sessions: Sessions, journal: Path, level: int = SMALL) -> None:
        """level: of zstd, by which the journal is compressed."""
        self.journal = journal
        """The journal that is written."""
        self._sessions = sessions
        self._own = OwnJournal(sessions.path, journal, level)
        self._uncopied = ""
        """The file whose prompts and traces are journalled by their ids only; empty where they are whole."""
        self._expects_new = True
        """What was added last held something new."""
        self._is_covered = False

    @contextmanager
    def importing(self, file: str, is_copied: bool = True) -> Iterator[Keeper]:
        """For the length of the block, a way into the store whose journal is a copy of what `file` brings, compressed
        at the end; without a copy only ids are noted, so that a loss can be said."""
        if not is_copied:
            into = Keeper(self._sessions, self.journal)
            into._uncopied = file
            yield into
            return
        into = Keeper(self._sessions, _free_name(self.journal.parent / "imports", file), FAST)
        try:
            yield into
        finally:
            into._sessions.run(into._own.close)

    def add_prompts(self, prompts: Iterable[Prompt]) -> int:
        """Store prompts that are new; returns how many were."""
        return sum(self.add(prompts=batch).prompts for batch in batched(prompts))

    def add_traces(self, traces: Iterable[Trace]) -> int:
        """Store traces that are new; returns how many were. A trace may come before its prompt."""
        return sum(self.add(traces=batch).traces for batch in batched(traces))

    def add_facts(self, facts: Iterable[Fact]) -> None:
        """Store facts; a second one of the same member, version and variant replaces the first. StoreError for an
        unknown trace or prompt."""
        for batch in batched(facts):
            self.add(facts=batch)

    def add(self, prompts: Sequence[Prompt] = (), traces: Sequence[Trace] = (), facts: Sequence[Fact] = ()) -> Added:
        """The same of all three in one session, which should be as much as one can write."""
        return self.prepared(prompts, traces, facts)()

    def prepared(self, prompts: Sequence[Prompt], traces: Sequence[Trace],
                 facts: Sequence[Fact]) -> Callable[[], Added]:
        """What `add` does, all of it done that needs no session: another thread may do the rest."""
        kinds: tuple[tuple[Sequence[Any], Callable[[Any], list[bytes]]], ...] = (
            (prompts, prompt_lines), (traces, trace_lines))
        tables: dict[TableName, pa.Table | None] = {"prompts": prompt_table(prompts) if prompts else None,
                                                    "traces": trace_table(traces) if traces else None}
        is_ahead = self._expects_new and not self._uncopied  # what is new most likely is written before the session
        ahead = [lines_of(records) if records else [] for records, lines_of in kinds] if is_ahead else None
        said = [facts_line(facts)] if facts else []

        def work(con: DuckDBPyConnection) -> Added:
            at = self._own.moment(con)
            new = [new_rows(con, name, data) for name, data in tables.items()]
            subjects = subjects_of(con, facts, *new)
            _require_known(subjects, [fact.subject_id for fact in facts])
            uncopied = [one for part in new for one in part.ids] if self._uncopied else []
            lines = [encode(uncopied_line(self._uncopied, uncopied))] if uncopied else []
            for kind, (records, lines_of) in enumerate(() if self._uncopied else kinds):
                places = new[kind].places
                if ahead is not None:
                    lines += [ahead[kind][place] for place in places]
                elif places:
                    lines += lines_of([records[place] for place in places])
            with transaction(con), self._own.writing(con, at, [*lines, *said], max(1, len(facts))):
                insert_prompts(con, new[0], moment(at))
                insert_traces(con, new[1], moment(at), new[0])
                if uncopied:
                    carry_out(con, uncopied_line(self._uncopied, uncopied))
                upsert_facts(con, in_turn(facts, moment(at)), subjects)
            return Added(*(len(part.places) for part in new))

        def store() -> Added:
            added = self._run(work)
            self._expects_new = bool(added.prompts or added.traces or not (prompts or traces))
            return added

        return store

    def change_fact(self, trace_id: str, key: FactKey,
                    change: Callable[[Fact | None], Fact]) -> tuple[Fact | None, Fact]:
        """Put what `change` makes of a member's fact of a trace (None where it said nothing) in its place, with nobody
        in between; returns both. StoreError for an unknown trace."""

        def work(con: DuckDBPyConnection) -> tuple[Fact | None, Fact]:
            known = Subjects(seqs_of(con, "traces", [storable(trace_id)]), {})
            _require_known(known, [trace_id])
            rows = con.execute(f"SELECT {', '.join(FACT_COLUMNS)} FROM facts WHERE {within([key])} AND trace_seq = ?",
                               [*known.traces.values()]).fetchall()
            before = fact_of(rows[0]) if rows else None
            if (after := change(before)) != before:
                at = self._own.moment(con)
                with transaction(con), self._own.writing(con, at, [facts_line([after])]):
                    upsert_facts(con, [(after, moment(at))], known)
            return before, after

        return self._run(work)

    def told(self, trace_id: str, key: FactKey) -> list[Fact]:
        """All that a member ever said of a trace, oldest first, as the store's own journals hold it: every line of them
        is read."""
        self.cover()
        named, found = encode({"": trace_id}).split(b":", 1)[1].strip(b'"}\n'), []
        for path in (self.journal.with_name(self._sessions.path.stem + FIRST), self.journal):
            for line, _ in read_lines(path, 0, Reading()):
                record = decode(line[:-1]) if named in line else None  # most lines are of others, and long
                with suppress(*DAMAGED):
                    found += [fact for fact in map(fact_from_json, (record or {}).get("facts", ()))
                              if (fact.by, fact.version, fact.variant) == key and fact.subject_id == trace_id]
        return found

    def expect_facts(self, maker: type[FactMaker], variant: str) -> None:
        """Let the columns of a member be there before its first fact is."""
        rows = [{"member": maker.name, "version": maker.version, "variant": storable(variant), "kind": maker.kind,
                 "metric": metric, "is_text": maker.says == "text" and not metric,
                 "of_prompts": maker.about == "prompt"}
                for metric in ("", *maker.metrics)]
        if new := self._sessions.run(lambda con: new_columns(con, rows)):
            self._say(columns_line(new))

    def save_selection(
        self, name: str, definition: Mapping[str, Any], kept_ids: Sequence[str], removed: Mapping[str, int]
    ) -> str:
        """Save a list of traces under a name, with what made it and how many each filter removed; returns its id.
        Saving the same again makes it the newest of its name."""
        identity = selections.identity_of(name, definition, kept_ids)
        is_newest, is_saved = self._sessions.run(lambda con: (selections.is_newest(con, identity, name, removed),
                                                              selections.is_saved(con, identity)))
        if is_newest:
            return identity
        if not is_saved:
            for line in selections.selected_lines(identity, kept_ids):
                self._say(line)
        self._say(selections.selection_line(identity, name, definition, removed))
        return identity

    def add_lineage(self, dataset: str, rows: Sequence[tuple[str, str]]) -> None:
        """Remember (row id, trace id) of each row of a dataset, in order."""
        if not rows or selections.lineage(self._sessions, dataset) != list(rows):
            for line in selections.lineage_lines(dataset, rows):
                self._say(line)

    def give_prompts(self, prompts: Mapping[str, str]) -> None:
        """Let stored traces without a prompt, and what was rewritten from them, be answers to these stored prompts
        (trace id -> prompt id): a prompt that asked the same may bear another id now, as its reference was changed."""
        for batch in chunked(prompts.items(), BORDERS.batch_rows):
            self._say(adoption_line(dict(batch)))

    def _say(self, line: Line) -> None:
        """Journal a line and carry it out."""

        def work(con: DuckDBPyConnection) -> None:
            at = self._own.moment(con)
            with transaction(con), self._own.writing(con, at, [encode(line)]):
                carry_out(con, {**line, "at": at})

        self._run(work)

    def cover(self) -> None:
        """Journal what the store holds that came before there were journals of everything."""
        if not self._is_covered:
            cover(self._sessions, self.journal)
            self._is_covered = True

    def _run(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """The result of `work`, which writes the own journal, in a session. What the store holds that came before
        there were journals of everything is journalled first."""
        self.cover()

        def session(con: DuckDBPyConnection) -> T:
            with self._own.session():
                return work(con)

        return self._sessions.run(session)


def _free_name(folder: Path, file: str) -> Path:
    """The next free journal for a file that is imported."""
    name = re.sub(r"[^\w.-]", "_", file)[:_NAME_CHARS]
    paths = (folder / f"{name}-{number}.jsonl" for number in count(1))
    return next(path for path in paths if not any(part.exists() for part in parts_of(path)))


def _require_known(subjects: Subjects, ids: Iterable[str]) -> None:
    if lost := sorted(one for one in ids if subjects.lacks(storable(one))):
        raise StoreError(f"a fact is of {lost[0]}, which is not stored", "store the trace or prompt first")
