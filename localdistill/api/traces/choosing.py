"""What goes out: a saved selection, a set of a run, what meets a condition, or all that is stored, as items that
layouts write. Nothing here knows a file or a layout."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from localdistill.api.traces.arm_rows import ArmSource
from localdistill.api.traces.browsing import Browser
from localdistill.api.traces.taken import NO_PROMPT, RowUnit, Source, Taken
from localdistill.core.errors import UsageError, nearest
from localdistill.core.records import FactScope
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.written import VERDICT_COLUMN
from localdistill.stages.outputs import scope_of_run
from localdistill.stages.sets import ids_of
from localdistill.store.pages import places_by_prompt, readers, selected_places, stored_places
from localdistill.store.session import Sessions
from localdistill.store.taking_out import TakenOut, prompts_of, stored_at
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

NO_PAIR = "no right and wrong answer of one prompt is left to go with it"
UNJUDGED = "nobody said whether it is right"


@dataclass(frozen=True)
class DataChoice:
    """What is to go out. Without anything: all that is stored."""

    selection: str = ""
    """Name or id of a saved selection."""
    where: str = ""
    """SQL condition on a trace, as `localdistill traces --where` takes it."""
    search: str = ""
    """Only traces that hold this text."""
    run: str = ""
    """A run's id; `last` is the newest."""
    trace_set: str = ""
    """A set of the run's recipe, after its filters; may be left empty where there is one."""
    arm: str = ""
    """An arm of the run's recipe: its training rows, as its formats laid the traces out."""


@dataclass(frozen=True)
class StoredSource:
    """Traces by their places in the store."""

    sessions: Sessions
    places: array[int] | None
    """None: all prompts, those without an answer too, where rows are of prompts; else all traces."""
    scope: FactScope | None = None
    said: Mapping[str, str] = field(default_factory=dict)

    def items(self, unit: RowUnit) -> Iterator[Taken | str]:
        """See `Source`."""
        if unit == "prompt":
            yield from (Taken(Imported(prompt)) for prompt in prompts_of(self.sessions, self.places))
            return
        places = self._all() if self.places is None else self.places
        if unit == "pair":
            yield from self._pairs(places_by_prompt(self.sessions, places))
            return
        for one in stored_at(self.sessions, places, self.scope):
            yield NO_PROMPT if one.prompt is None else Taken(Imported(one.prompt, (_answer(one),)), one.facts)

    def token_rows(self) -> Iterator[Mapping[str, Any]]:
        """UsageError."""
        raise UsageError("tokens are those of an arm's dataset", "--run RUN --arm NAME")

    def _all(self) -> array[int]:
        found = array("q")
        for piece in stored_places(self.sessions):
            found.extend(piece)
        return found

    def _pairs(self, places: array[int]) -> Iterator[Taken | str]:
        """The first right answer of a prompt with its first wrong one, and so on: none is in two pairs."""
        for _, found in groupby(stored_at(self.sessions, places, self.scope), key=lambda one: one.trace.prompt_id):
            waiting: dict[bool, list[TakenOut]] = {True: [], False: []}
            for one in found:
                if one.prompt is None or one.right is None:
                    yield NO_PROMPT if one.prompt is None else UNJUDGED
                    continue
                if others := waiting[not one.right]:
                    pair = sorted((one, others.pop(0)), key=lambda each: not each.right)
                    yield Taken(Imported(one.prompt, tuple(map(_answer, pair))), sum(each.facts for each in pair))
                else:
                    waiting[one.right].append(one)
            yield from (NO_PAIR for alone in waiting.values() for _ in alone)


def source_of(workspace: Workspace, choice: DataChoice) -> Source:
    """Where the rows of a choice come from. UsageError for what there is not, and for two choices at once."""
    if choice.run and (choice.selection or choice.where or choice.search):
        raise UsageError("a run, and a selection or condition, choose differently", "give one of them")
    if (choice.trace_set or choice.arm) and not choice.run:
        raise UsageError("sets and arms are those of a run", "--run RUN --set NAME, or --run RUN --arm NAME")
    if choice.trace_set and choice.arm:
        raise UsageError("a set and an arm choose differently", "give one of them")
    store = open_store(workspace)
    if not store.path.exists():
        raise UsageError("nothing is stored here", "localdistill import FILE; --workspace picks another folder")
    sessions = readers(store.path)
    if choice.run:
        run = RunFolder.open(workspace.runs, choice.run)
        return ArmSource(workspace, run, choice.arm) if choice.arm else _of_run(sessions, run, choice.trace_set)
    said = {"condition": choice.where, "text": choice.search}
    if not (choice.selection or choice.where or choice.search):
        return StoredSource(sessions, None, said={"chosen": "all that is stored"})
    if choice.selection:
        kept = store.selection(choice.selection)
        said |= {"selection": kept.name, **_removed(kept.definition, kept.removed)}
    browser = Browser(store, choice.where, choice.search, selection=choice.selection)
    browser.resolve()
    return StoredSource(sessions, browser.places, said=said)


def _of_run(sessions: Sessions, run: RunFolder, name: str) -> Source:
    recipe = run.recipe()
    known = [one.name for one in recipe.sets]
    if not name and len(known) == 1:
        name = known[0]
    if name not in known:
        what = f"the recipe of run {run.id} has no set '{name}'{nearest(name, known)}" if name else (
            f"the recipe of run {run.id} has several sets")
        raise UsageError(what, f"--set {' | '.join(known)}")
    ids = ids_of(run, recipe, name)
    said = {"run": run.id, "recipe": recipe.name, "set": name,
            "filters": ", ".join(member.use for member in recipe.filters)}
    return StoredSource(sessions, selected_places(sessions, ids), scope_of_run(run), said)


def _removed(definition: Mapping[str, Any], removed: Mapping[str, int]) -> dict[str, str]:
    """What a selection is, in words."""
    filters = [str(one.get("use", "")) for one in definition.get("filters", []) if isinstance(one, Mapping)]
    return {"filters": ", ".join(filter(None, filters)),
            "removed": ", ".join(f"{name} {count:,}" for name, count in removed.items())}


def _answer(one: TakenOut) -> Answer:
    return Answer(one.trace, one.right, "" if one.right is None else VERDICT_COLUMN)
