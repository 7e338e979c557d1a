"""Sets of traces as a run holds them: the lists of ids that each has before and after its filters, and the parts that
arms are made of. Runs that are older than sets have one list for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from localdistill.recipe import Member, Recipe
from localdistill.recipe.sections import ArmSection, PartSection
from localdistill.recipe.trace_sets import RewrittenSet
from localdistill.safety.files import Stamp
from localdistill.stages.context import StageContext
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class ArmPart:
    """One part of an arm: traces in one format."""

    name: str
    """Of its sets, for people."""
    trace_ids: tuple[str, ...]
    format: Member
    share: float | None = None
    """Of the arm's prompts; None where every prompt takes part in every part that can serve it."""
    weight: float = 1.0
    """How much its rows count beside those of other parts."""
    rewrite: str = ""
    """The rewrites that made its traces, so that a score card never calls a rule a summarizer; empty for the original
    ones."""


def collected(name: str) -> str:
    """The list that holds a set that is not rewritten, before its filters."""
    return f"collect-{name}"


def selected(name: str, arm: str = "") -> str:
    """The list that holds what the filters of such a set kept; with `arm`, what that arm's own filters kept of any."""
    return f"select-{name}@{arm}" if arm else f"select-{name}"


def rewritten(name: str) -> str:
    """The list that holds the kept traces of a rewritten set."""
    return f"rewrite-{name}"


def collected_ids(run: RunFolder, name: str) -> list[str]:
    """The traces of a set that is not rewritten, before its filters."""
    return run.ids(collected(name) if run.has_ids(collected(name)) else "collect")


def collected_stamp(run: RunFolder, name: str) -> Stamp | None:
    """By what it is told whether these traces are still the same ones."""
    return run.lists.stamp(collected(name) if run.has_ids(collected(name)) else "collect")


def ids_of(run: RunFolder, recipe: Recipe, name: str, arm: str = "") -> list[str]:
    """The traces of a set that arms train on and rewrites start from; with `arm`, those that this arm's own filters
    kept. Empty as long as the run has not come to them."""
    if arm and run.has_ids(selected(name, arm)):
        return run.ids(selected(name, arm))
    if isinstance(recipe.trace_set(name), RewrittenSet):
        return run.ids(rewritten(name))
    return run.ids(selected(name) if run.has_ids(selected(name)) else "select")


def ids_of_all(run: RunFolder, recipe: Recipe, names: Iterable[str], arm: str = "") -> list[str]:
    """The traces of several sets, each once."""
    return list(dict.fromkeys(key for name in names for key in ids_of(run, recipe, name, arm)))


def arm_parts(context: StageContext, section: ArmSection) -> tuple[ArmPart, ...]:
    """The parts of an arm with the traces that each lays out, in the recipe's order."""
    return tuple(
        ArmPart(_part_name(section, place), tuple(part_traces(context.run, context.recipe, section, part)),
                part.member, part.share, part.weight, _rewrite(context.recipe, part))
        for place, part in enumerate(section.parts))


def part_traces(run: RunFolder, recipe: Recipe, section: ArmSection, part: PartSection) -> list[str]:
    """The traces that one part of an arm lays out; none where the run has not come as far."""
    return ids_of_all(run, recipe, part.traces, section.name if section.filters is not None else "")


def _rewrite(recipe: Recipe, part: PartSection) -> str:
    return " + ".join(dict.fromkeys(one.rewrite for one in recipe.rewrites if one.name in part.traces))


def _part_name(section: ArmSection, place: int) -> str:
    """Its sets; and its format, where another part has the same."""
    part = section.parts[place]
    name = " + ".join(part.traces)
    return name if [other.traces for other in section.parts].count(part.traces) == 1 else f"{name} as {part.format}"


def selection_name(recipe: Recipe, name: str, arm: str = "") -> str:
    """What is kept of a set is saved under this name: the recipe's, with the set where it has several of them, and the
    arm whose own filters they are."""
    whole = recipe.name if len(recipe.originals) == 1 and not arm else f"{recipe.name}/{name}"
    return f"{whole}@{arm}" if arm else whole
