"""`Store`: everything the chain keeps, behind one class. Each method opens short sessions of its own, so nobody holds
the file between two calls, nor while a consumer works through an iterator."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError, UsageError
from localdistill.core.records import Fact, FactKey, FactScope, Prompt, Reply, Trace
from localdistill.rewrites.naming import RewriteName
from localdistill.store import forgetting, journals, reading, view
from localdistill.store import selections as ledger
from localdistill.store.columns import facts_seen, verdicts_sql, within
from localdistill.store.forgetting import Names
from localdistill.store.journals import CatchUp, Lack
from localdistill.store.keeper import Keeper, own_path
from localdistill.store.places import follow_journal
from localdistill.store.prompt_rows import ANY_SOURCE, prompt_ids
from localdistill.store.replies import ReplyKey, reply_of_cell
from localdistill.store.rows import (
    FACT_COLUMNS,
    PROMPT_COLUMNS,
    TRACE_COLUMNS,
    fact_of,
    prompt_of,
    restored,
    storable,
    trace_of_row,
)  # fmt: skip
from localdistill.store.selections import Selection
from localdistill.store.session import WAIT_S, Sessions, transaction
from localdistill.store.view import SearchHit
from localdistill.store.writing import (
    chunked,
    grant_claims,
    incoming_ids,
)  # fmt: skip

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

T = TypeVar("T")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class StoreCounts:
    """How much is stored."""

    prompts: int
    traces: int
    rewritten: int
    grades: int
    """Verdicts of graders."""
    replies: int
    """Of engines to questions of graders, labels and rewrites."""
    selections: int
    cost_usd: float
    """Sum of the known costs."""


@dataclass(frozen=True)
class StoredTraces:
    """What is stored, as somebody who wants to train on it asks."""

    traces: int = 0
    """Original ones and complete."""
    prompts: int = 0
    rewritten: int = 0
    with_reference: int = 0
    """Traces whose prompt has a reference answer."""
    with_original: int = 0
    with_reasoning: int = 0
    verdicts: int = 0
    """Traces that came with a verdict."""
    sources: tuple[str, ...] = ()
    """Where they come from, the most usual first."""


class Store(Keeper):
    """The store of one workspace: a DuckDB file that is created on first use, and a journal beside it of all that is
    stored directly.

    Every method may raise StoreLocked when another process keeps the file longer than `wait_s` seconds, StoreError
    when the file is damaged, from a newer version, or the disk is full (StoreReadOnly where nobody may write), and
    OutOfMemory, which says nothing against the file.
    """

    def __init__(self, path: Path | str, wait_s: float = WAIT_S, journal: Path | None = None) -> None:
        """journal: where what is stored directly goes first; None has it in `journals` beside the file. StoreError
        where the file is a link to where nothing can be: it is not an empty store."""
        self.path = Path(path)
        if self.path.is_symlink() and not self.path.resolve().parent.exists():
            raise StoreError(f"{self.path} is a link to {os.readlink(self.path)}, which cannot be read",
                             "connect the disk that it leads to; or remove the link: any command then makes the store "
                             "again of what the journals hold")
        super().__init__(Sessions(self.path, wait_s), journal or own_path(self.path))

    def prompts(self, ids: Sequence[str] | None = None) -> Iterator[Prompt]:
        """Prompts in stored order, or those of `ids` in that order; StoreError when one is not stored."""
        return reading.records(self._sessions, "prompts", PROMPT_COLUMNS, prompt_of, ids)

    def traces(self, ids: Sequence[str] | None = None) -> Iterator[Trace]:
        """Traces in stored order, or those of `ids` in that order; StoreError when one is not stored."""
        return reading.records(self._sessions, "traces", TRACE_COLUMNS, trace_of_row, ids)

    def pairs(self, ids: Sequence[str]) -> Iterator[tuple[Prompt, Trace]]:
        """Each trace of `ids`, in that order, with its prompt; StoreError when one of either is not stored."""
        for traces in chunked(self.traces(ids), BORDERS.chunk_ids):
            wanted = list(dict.fromkeys(trace.prompt_id for trace in traces))
            found = dict(zip(wanted, self.prompts(wanted), strict=True))
            yield from ((found[trace.prompt_id], trace) for trace in traces)

    def facts(self, ids: Sequence[str], among: FactScope | None = None) -> dict[str, list[Fact]]:
        """What is said of each trace or prompt: everything, or what the members `among` say."""
        found: dict[str, list[Fact]] = {}
        sql = (f"SELECT {', '.join(FACT_COLUMNS)} FROM facts JOIN incoming ON id = subject_id "
               f"WHERE {within(among)} ORDER BY position, member, version, variant")
        for row in self._joined(ids, sql):
            found.setdefault(row[0], []).append(fact_of(row))
        return found

    def said(self, ids: Sequence[str], key: FactKey) -> set[str]:
        """The traces or prompts among `ids` of which this member has said something."""
        sql = f"SELECT subject_id FROM facts JOIN incoming ON id = subject_id WHERE {within([key])}"
        return {row[0] for row in self._joined(ids, sql)}

    def verdicts(self, ids: Sequence[str], scope: FactScope | None = None) -> dict[str, bool]:
        """Whether each trace was found right, where somebody decided: a person, else every one of the members of
        `scope` that did."""
        sql = verdicts_sql("id", "facts JOIN incoming ON id = subject_id WHERE true", scope)
        return {row[0]: row[1] for row in self._joined(ids, sql) if row[1] is not None}

    def vetoed(self, ids: Sequence[str]) -> set[str]:
        """The traces that are wrong, or not wanted, by the file that they came with, and that no person found right."""
        sql = ("SELECT id FROM facts JOIN incoming ON id = subject_id WHERE kind IN ('published', 'judgement') "
               "GROUP BY id HAVING NOT coalesce(bool_and(passed) FILTER (WHERE kind = 'judgement'), "
               "bool_and(passed) FILTER (WHERE kind = 'published'), true)")
        return {row[0] for row in self._joined(ids, sql)}

    def replies(self, keys: Sequence[ReplyKey]) -> dict[ReplyKey, Reply]:
        """What is known of these questions of members."""
        wanted = set(keys)
        rows = self._joined([key for key, _ in keys], "SELECT id, attempt, reply FROM replies JOIN incoming USING (id)")
        return {(row[0], row[1]): reply_of_cell(row[2]) for row in rows if (row[0], row[1]) in wanted}

    def prompt_ids(self, sources: Sequence[str]) -> list[str]:
        """Ids of the prompts that come from one of these sources, from any with `*`, in stored order, but for those
        that an augmentation made."""
        return list(prompt_ids(self._sessions, sources))

    def prompt_sources(self) -> tuple[str, ...]:
        """Where prompts come from, the most usual first."""
        rows = self._rows("SELECT source FROM prompts WHERE source <> '' GROUP BY source "
                          "ORDER BY count(*) DESC, source")
        return tuple(restored(source) for (source,) in rows)

    def known_prompts(self, ids: Iterable[str]) -> set[str]:
        """The ids of prompts that are stored."""
        return reading.known(self._sessions, "prompts", list(ids))

    def known_traces(self, ids: Iterable[str]) -> set[str]:
        """The ids that are stored."""
        return reading.known(self._sessions, "traces", list(ids))

    def usage_of(self, model: str, limit: int = 1000) -> list[tuple[int, int, float]]:
        """(prompt tokens, new tokens, seconds) of the last replies of `model` that were not copied from elsewhere."""
        sql = (
            "SELECT prompt_tokens, completion_tokens, elapsed_s FROM traces "
            "WHERE model = ? AND NOT usage_estimated AND parent_id IS NULL ORDER BY seq DESC LIMIT ?"
        )
        return [(int(p or 0), int(c or 0), float(e or 0)) for p, c, e in self._rows(sql, [storable(model), limit])]

    def usage_of_questions(self, model: str, limit: int = 1000) -> list[tuple[int, int, float]]:
        """The same of the last replies of `model` to questions of members."""
        sql = ("SELECT prompt_tokens, completion_tokens, elapsed_s FROM replies WHERE model = ? "
               "ORDER BY created_at DESC LIMIT ?")
        return [(int(p or 0), int(c or 0), float(e or 0)) for p, c, e in self._rows(sql, [storable(model), limit])]

    def cost_of(self, trace_ids: Sequence[str]) -> tuple[float, int]:
        """What the traces cost in US dollars, and of how many the cost is unknown."""
        sql = "SELECT coalesce(sum(cost_usd), 0), count(*) - count(cost_usd) FROM traces JOIN incoming USING (id)"
        parts = list(self._joined(trace_ids, sql))
        return math.fsum(known for known, _ in parts), sum(unknown for _, unknown in parts)

    def without_child(self, parents: Sequence[str], rewrite: RewriteName) -> list[str]:
        """The parents that have no trace made by `rewrite`, in the order given."""
        done = {row[0] for row in self.children(parents, rewrite)}
        return [parent for parent in parents if parent not in done]

    def children(self, parents: Sequence[str], rewrite: RewriteName) -> list[tuple[str, str, float, str]]:
        """(parent, trace, score, reason) of each trace that `rewrite` made, in the order of the parents. The verdict
        is the rewrite's own; one without a verdict has the score 0."""
        sql = (
            "SELECT parent_id, t.id, f.number, f.reason FROM traces t JOIN incoming ON incoming.id = parent_id "
            "LEFT JOIN facts f ON f.trace_seq = t.seq AND f.kind = 'rewrite' "
            "WHERE t.rewrite = $rewrite ORDER BY position, t.seq"
        )
        found, names = {}, {"rewrite": storable(str(rewrite))}
        for parent, child, score, reason in self._joined(parents, sql, names):
            found[child] = (parent, child, score or 0.0, restored(reason or "") if score is not None else "not judged")
        return list(found.values())

    def licences(self, trace_ids: Sequence[str]) -> list[str]:
        """The licences of the prompts behind the traces, sorted; those that state none count as `unknown`."""
        sql = (
            "SELECT DISTINCT coalesce(nullif(p.licence, ''), 'unknown') FROM traces t JOIN incoming USING (id) "
            "LEFT JOIN prompts p ON p.seq = t.prompt_seq"
        )
        return sorted({restored(row[0]) for row in self._joined(trace_ids, sql)})

    def terms(self, trace_ids: Sequence[str]) -> list[str]:
        """What the traces and their parents say of terms of use (see `Trace.terms`), sorted, each once; those that
        say nothing are left out."""
        sql = (
            "SELECT DISTINCT unnest([t.terms, p.terms]) AS said FROM traces t JOIN incoming USING (id) "
            "LEFT JOIN traces p ON p.id = t.parent_id"
        )
        return sorted({restored(row[0]) for row in self._joined(trace_ids, sql) if row[0]})

    def trace_ids(self, where: str | None = None, params: Mapping[str, Any] | None = None,
                  scope: FactScope | None = None) -> list[str]:
        """Ids of the traces that meet `where`, an SQL condition of our own over `trace_view` with named parameters
        (`$name`), with the facts of `scope`, in stored order. UsageError when the condition cannot be used."""
        return list(view.matching_ids(self._sessions, where, params, scope))

    def places(self, ids: Sequence[str]) -> array[int]:
        """Where the traces stand in the stored order, which no change of the store changes, only a rebuilt one does.
        StoreError when one is not stored."""
        return reading.stored_seqs(self._sessions, "traces", ids)

    def places_meeting(self, where: str, places: array[int], scope: FactScope | None = None,
                       from_user: bool = False) -> array[int]:
        """Those of `places` that meet `where`, in their order, with the facts of `scope`. from_user: a user wrote the
        condition, which is worked out in a child, as in `listing`. UsageError when it cannot be used."""
        return view.meeting(self._sessions, places, where, scope, from_user)

    def meeting(self, where: str, ids: Sequence[str], scope: FactScope | None = None,
                from_user: bool = False) -> list[str]:
        """Those of `ids` that meet `where`, as `places_meeting` finds them. StoreError when one is not stored."""
        places = self.places(ids)
        found = set(self.places_meeting(where, places, scope, from_user))
        return [one for one, place in zip(ids, places, strict=True) if place in found]

    def ids_where(self, where: str) -> list[str]:
        """Ids of the traces that meet `where`, which may be what a user typed (see `listing`), in stored order."""
        return view.ids_where(self._sessions, where)

    def batches(
        self, columns: Sequence[str], where: str | None = None, ids: Sequence[str] | None = None,
        scope: FactScope | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of `trace_view` with `columns`, facts those of `scope`: in stored order, or in the order of `ids`."""
        return view.arrow_batches(self._sessions, columns, where, ids, scope)

    def columns(self, scope: FactScope | None = None) -> tuple[str, ...]:
        """The columns of `trace_view`, with those of the facts of `scope` (of all without one)."""
        return self._sessions.run(lambda con: facts_seen(con, scope)).names

    def columns_named(self, sql: str, scope: FactScope | None = None) -> list[str]:
        """Those of the columns that an SQL condition of our own may speak of."""
        return self._sessions.run(lambda con: facts_seen(con, scope)).named_in(sql)

    def listing(self, where: str | None = None, search: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """The first `limit` traces that meet the condition and hold the text, as JSON-ready dicts of the columns of
        `trace_view` without the long texts. `where` may be what a user typed: it is worked out in a child process that
        is ended when it takes too long or too much memory (`store.conditions`)."""
        return view.listing(self._sessions, where, search, limit)

    def search(self, text: str) -> Iterator[SearchHit]:
        """Traces that hold `text` in any case, in stored order, as they are found."""
        return view.hits(self._sessions, text)

    def require_trace(self, prefix: str) -> Trace:
        """The trace whose id starts with `prefix`. UsageError as `find_trace`, and when there is none."""
        found = self.find_trace(prefix) if self.path.exists() else None
        if found is None:
            raise UsageError(f"there is no trace '{prefix}' here", "`localdistill traces` lists them")
        return found

    def find_trace(self, prefix: str) -> Trace | None:
        """The trace whose id starts with `prefix` (with or without `b2:`), None when there is none; UsageError when
        there are several."""
        rows = self._rows(
            "SELECT id FROM traces WHERE starts_with(id, $p) OR starts_with(id, 'b2:' || $p) ORDER BY id <> $p LIMIT 2",
            {"p": storable(prefix)},
        )
        if len(rows) > 1 and rows[0][0] != prefix:
            raise UsageError(f"several traces start with '{prefix}'", "give more of the id")
        return next(self.traces([rows[0][0]])) if rows else None

    def selection(self, name: str) -> Selection:
        """The newest selection of that name, or the one with that id; UsageError when there is none."""
        return ledger.selection(self._sessions, name)

    def lineage(self, dataset: str) -> list[tuple[str, str]]:
        """(row id, trace id) of each row of a dataset, in order."""
        return ledger.lineage(self._sessions, dataset)

    def datasets_of(self, trace_id: str) -> list[str]:
        """Digests of the datasets that hold a trace."""
        return ledger.datasets_of(self._sessions, trace_id)

    def claim(self, ids: Sequence[str], run_id: str) -> dict[str, str]:
        """Claim ids before asking for them; returns those that another run holds, each with that run. A claim lasts
        until it is released: that of a run that does not live any more counts for nothing, which only who can look
        at runs knows."""

        def work(con: DuckDBPyConnection) -> dict[str, str]:
            with transaction(con):
                return grant_claims(con, ids, run_id)

        return self._sessions.run(work)

    def release(self, run_id: str) -> None:
        """Give back all claims of a run."""
        self._rows("DELETE FROM claims WHERE run_id = ?", [run_id])

    def claimants(self) -> list[str]:
        """The runs that hold claims."""
        return [row[0] for row in self._rows("SELECT DISTINCT run_id FROM claims ORDER BY 1")]

    @property
    def sessions(self) -> Sessions:
        """For who reads the tables themselves."""
        return self._sessions

    def catch_up(self, paths: Iterable[Path], tick: Callable[[int], None] = lambda lines: None) -> CatchUp:
        """Take in what the journals, and the store's own, hold and the store does not. Harmless to repeat. tick: told
        now and then how many lines were taken in; it may raise."""
        caught = journals.catch_up(self._sessions, [self.journal, *paths], tick)
        aside, self._sessions.set_aside = self._sessions.set_aside, []
        return replace(caught, set_aside=tuple(aside))

    def follow_journal(self, old: Path, new: Path) -> None:
        """Know a journal at the place where it lies now."""
        self._sessions.run(lambda con: follow_journal(con, self.path, old, new))

    def lacking(self, paths: Iterable[Path]) -> list[Lack]:
        """What the journals, and the store's own, hold and the store does not."""
        return journals.lacking(self._sessions, list(dict.fromkeys([self.journal, *paths])))

    def lost_in_journals(self) -> dict[str, str]:
        """The journals of the workspace, by their paths below it, that do not hold what the store has read in them,
        each with what is wrong. Changes nothing, not even a store that an older version wrote: StoreReadOnly then."""
        return journals.lost_in(Sessions(self.path, self._sessions.wait_s, read_only=True))

    def forget(self, names: Names) -> None:
        """Remove all rows of these, and let them never be stored again. What journals hold of them is not touched."""
        self._say(names.line())

    def barred(self) -> Names:
        """All that was ever forgotten here: it is neither stored nor asked again."""
        return self._sessions.run(forgetting.barred) if self.path.exists() else Names()

    def uncopied(self) -> dict[str, list[str]]:
        """The ids of what was imported without a copy, by file."""
        rows = self._rows("SELECT file, list(id) FROM uncopied GROUP BY file ORDER BY file")
        return {restored(file): ids for file, ids in rows}

    def lost_uncopied(self) -> dict[str, int]:
        """How much of what was imported without a copy is gone, by file."""
        return self._sessions.run(forgetting.lost_uncopied)

    def without_prompt(self) -> dict[str, str]:
        """Of every trace whose prompt is not stored, the prompt's id by the trace's."""
        return dict(self._rows("SELECT id, prompt_id FROM traces WHERE prompt_seq IS NULL ORDER BY seq"))

    def stored_traces(self) -> StoredTraces:
        """What there is to train on."""
        row = self._rows(
            "SELECT count(*), (SELECT count(*) FROM prompts), (SELECT count(parent_id) FROM traces), "
            "count(p.reference), count(p.original), count(*) FILTER (WHERE t.reasoning <> ''), "
            "(SELECT count(DISTINCT subject_id) FROM facts WHERE kind = 'published') "
            "FROM traces t LEFT JOIN prompts p ON p.seq = t.prompt_seq "
            "WHERE t.parent_id IS NULL AND t.status = 'complete'")[0]
        sources = self._rows("SELECT source FROM traces WHERE source <> '' GROUP BY source "
                             "ORDER BY count(*) DESC, source")
        return replace(StoredTraces(*row), sources=tuple(source for (source,) in sources))

    def stored_questions(self) -> StoredTraces:
        """The same of the prompts, as somebody who wants to have them answered asks: none counts that an augmentation
        made."""
        ids = self.prompt_ids([ANY_SOURCE])
        parts = self._joined(ids, "SELECT count(reference), count(original) FROM prompts JOIN incoming USING (id)")
        with_reference, with_original = map(sum, zip((0, 0), *parts, strict=True))
        return StoredTraces(prompts=len(ids), with_reference=with_reference, with_original=with_original,
                            with_reasoning=len(ids), sources=self.prompt_sources())

    def counts(self) -> StoreCounts:
        """How much is stored."""
        row = self._rows(
            "SELECT (SELECT count(*) FROM prompts), count(*), count(parent_id), "
            "(SELECT count(*) FROM facts WHERE kind = 'grade'), (SELECT count(*) FROM replies), "
            "(SELECT count(*) FROM selections), coalesce(sum(cost_usd), 0.0) FROM traces"
        )[0]
        return StoreCounts(*row)

    def _rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        return self._sessions.run(lambda con: con.execute(sql, values).fetchall())

    def _joined(
        self, ids: Sequence[str], sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of `sql`, which joins the table `incoming(position, id)`, asked for a part of `ids` at a time, each id
        once. What adds up or orders rows must do so again over the parts."""
        for chunk in chunked(dict.fromkeys(ids), BORDERS.lookup_ids):

            def work(con: DuckDBPyConnection, chunk: list[str] = chunk) -> list[tuple[Any, ...]]:
                with incoming_ids(con, chunk):
                    rows: list[tuple[Any, ...]] = con.execute(sql, values).fetchall()
                    return rows

            yield from self._sessions.run(work)
