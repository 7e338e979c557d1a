"""Looking at what filters remove from a set of a run, row by row with the reason: of the filters that the run has, or
of others before they bite. Stores nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localdistill.core.errors import UsageError, nearest
from localdistill.core.events import Cancel
from localdistill.recipe import Member
from localdistill.stages.context import StageContext
from localdistill.stages.select import Removed, removals
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class RemovedTrace:
    """A trace that a filter removed."""

    trace_id: str
    by: str
    """The filter; `published` for what is wrong by the file that it came with."""
    reason: str
    question: str
    answer: str


@dataclass(frozen=True)
class Removals:
    """What filters remove from a set."""

    run_id: str
    trace_set: str
    asked: int
    kept: int
    by_filter: Mapping[str, int]
    """How many each removes; a trace counts at the first."""
    rows: tuple[RemovedTrace, ...]
    """The first of each filter, in order."""


def removed_traces(workspace: Workspace, run: RunFolder, trace_set: str = "", filters: Sequence[Member] | None = None,
                   by: str = "", limit: int = 100, cancel: Cancel | None = None) -> Removals:
    """What `filters` (the run's own without any) remove from a set of the run (its first without a name): up to `limit`
    rows of each filter, or of the one called `by`. UsageError for a set or filter that there is not."""
    recipe = run.recipe()
    names = [one.name for one in recipe.originals]
    name = trace_set or names[0]
    if name not in names:
        raise UsageError(f"filters work on no set '{name}' of run {run.id}{nearest(name, names)}",
                         f"sets: {', '.join(names)}")
    one = recipe.trace_set(name)
    members = recipe.filters_of(one) if filters is None else tuple(filters)
    known = ["published", *dict.fromkeys(member.use for member in members)]
    if by and by not in known:
        raise UsageError(f"no filter '{by}' works on the set '{name}'{nearest(by, known)}",
                         f"filters: {', '.join(known)}")
    context = StageContext(workspace, run, recipe, open_store(workspace), lambda event: None, cancel or Cancel())
    counts, found = Counter[str](), list[Removed]()

    def told(removed: Removed) -> None:
        counts[removed.by] += 1
        if counts[removed.by] <= limit and by in ("", removed.by):
            found.append(removed)

    kept = removals(context, one, members, told)
    texts = _texts(context, [removed.trace_id for removed in found])
    rows = [RemovedTrace(removed.trace_id, removed.by, removed.reason, *texts.get(removed.trace_id, ("", "")))
            for removed in found]
    return Removals(run.id, name, len(kept) + counts.total(), len(kept), dict(counts), tuple(rows))


def _texts(context: StageContext, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Question and answer of traces."""
    found = {}
    for batch in context.store.batches(["trace_id", "question", "answer"], ids=ids):
        for row in batch.to_pylist():
            found[row["trace_id"]] = (row["question"] or "", row["answer"] or "")
    return found
