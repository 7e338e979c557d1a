"""What an arm is made of: which traces, laid out in which format, with what is known of each trace, and what is learned
from them. Stages ask here and read no recipe section of sets or arms themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from localdistill.core.records import Candidate, FactScope, Prompt
from localdistill.formats import FORMATS
from localdistill.formats.base import Format
from localdistill.objectives import OBJECTIVES
from localdistill.objectives.base import Objective
from localdistill.recipe import Member, Recipe
from localdistill.recipe.sections import ArmSection
from localdistill.stages.context import StageContext, build_member
from localdistill.store import Store
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class ArmPart:
    """Traces of one set in one format."""

    name: str
    trace_ids: Sequence[str]
    format: Member
    share: float | None = None
    """Of the arm's prompts; None where every prompt takes part in every part that can serve it."""
    weight: float = 1.0
    """How much its rows count beside those of other parts."""
    rewrite: str = ""
    """The rewrite that made its traces; empty for the original ones."""


def arm_parts(context: StageContext, section: ArmSection) -> tuple[ArmPart, ...]:
    """What an arm trains on, before its formats see it."""
    ids = arm_traces(context.store, context.run, section)
    rewrite = next((r.use for r in context.recipe.rewrites if r.name == section.rewrite), "")
    return (ArmPart(section.name, ids, arm_format(section), rewrite=rewrite),)


def arm_traces(store: Store, run: RunFolder, section: ArmSection) -> Sequence[str]:
    """The ids of the traces of an arm of one part; none where the run has not come as far."""
    if section.selection:
        return store.selection(section.selection).trace_ids
    return run.ids(f"rewrite-{section.rewrite}" if section.rewrite else "select")


def arm_format(section: ArmSection) -> Member:
    """The format of an arm of one part."""
    return Member(use=section.format, options=section.options)


def format_of(section: ArmSection, base: Path) -> Format:
    """The format of an arm of one part, built."""
    made: Format = build_member(FORMATS, arm_format(section), base)
    return made


def objective_of(recipe: Recipe, section: ArmSection, base: Path) -> Objective | None:
    """What an arm minimises; None where nothing is trained."""
    made: Objective | None = build_member(OBJECTIVES, recipe.train.objective, base) if recipe.train else None
    return made


def why_unlearnable(form: Format, objective: Objective) -> str:
    """Why the objective cannot learn from what the format makes; empty when it can."""
    if -1 in form.signs and -1 not in objective.signs:
        return f"the objective {objective.name} takes no wrong answers, and the format {form.name} makes them"
    enough = {"none": ("none", "group", "pair"), "group": ("group", "pair"), "pair": ("pair",)}[objective.grouping]
    if form.grouping in enough:
        return ""
    what = "pairs of a right and a wrong answer" if objective.grouping == "pair" else "right and wrong answers together"
    return f"the objective {objective.name} takes {what}, which the format {form.name} does not make"


def candidates(store: Store, trace_ids: Sequence[str],
               scope: FactScope | None = None) -> Iterator[tuple[Prompt, list[Candidate]]]:
    """The traces of each prompt together, both in the order of `trace_ids`, with what those of `scope` found.
    StoreError when one is not stored."""
    by_prompt: dict[str, list[str]] = {}
    for batch in store.batches(["trace_id", "prompt_id"], ids=trace_ids):
        for row in batch.to_pylist():
            by_prompt.setdefault(row["prompt_id"], []).append(row["trace_id"])
    verdicts = store.verdicts(trace_ids, scope)
    ordered = [trace_id for own in by_prompt.values() for trace_id in own]
    for _, pairs in groupby(store.pairs(ordered), key=lambda pair: pair[1].prompt_id):
        own = list(pairs)
        yield own[0][0], [Candidate(trace, verdicts.get(trace.id)) for _, trace in own]
