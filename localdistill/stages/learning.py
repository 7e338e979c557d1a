"""What an arm learns from: the traces of each prompt with what is known of them, and whether its objective can learn
from what its format makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.borders import BORDERS
from localdistill.core.records import Candidate, Fact, FactScope, Prompt
from localdistill.formats.base import Format
from localdistill.objectives import OBJECTIVES
from localdistill.objectives.base import Objective
from localdistill.recipe import Member, Recipe
from localdistill.recipe.sections import ArmSection, TrainSection
from localdistill.stages.context import StageContext, build_member
from localdistill.stages.outputs import ArmDataset
from localdistill.store import Store
from localdistill.trainers.job import TrainingJob

if TYPE_CHECKING:
    import pyarrow as pa


def arm_objective(train: TrainSection, section: ArmSection) -> Member:
    """What the arm `section` minimises, as the recipe says it."""
    return section.objective or train.objective


def objective_of(recipe: Recipe, section: ArmSection, base: Path) -> Objective | None:
    """What the arm `section` minimises; None where nothing is trained."""
    train = recipe.train
    made: Objective | None = build_member(OBJECTIVES, arm_objective(train, section), base) if train else None
    return made


def training_job(context: StageContext, section: ArmSection, arm: ArmDataset, rows: pa.Table,
                 output: Path) -> TrainingJob:
    """A training of the arm `section` on its rows into the folder `output`, from the base, with the recipe's seed."""
    objective = objective_of(context.recipe, section, context.base)
    assert objective is not None  # there is a [train]
    return TrainingJob(
        arm=section.name, student=context.student, rows=rows, stop_token_id=arm.facts.stop_token_id,
        tag_token_ids=arm.facts.tag_token_ids, objective=objective, output=output, seed=context.recipe.seed,
        held=context.held_base.path if context.held_base else None, died_for_memory=context.died_for_memory)


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
    """The traces of each prompt together, both in the order of `trace_ids`, with what those of `scope` say of them.
    StoreError when one is not stored."""
    by_prompt: dict[str, list[str]] = {}
    for batch in store.batches(["trace_id", "prompt_id"], ids=trace_ids):
        for row in batch.to_pylist():
            by_prompt.setdefault(row["prompt_id"], []).append(row["trace_id"])
    verdicts, waiting = store.verdicts(trace_ids, scope), iter(by_prompt.items())
    while some := dict(islice(waiting, BORDERS.learned_prompts)):
        ids = [trace_id for own in some.values() for trace_id in own]
        said = store.facts([*ids, *some], scope)
        for _, pairs in groupby(store.pairs(ids), key=lambda pair: pair[1].prompt_id):
            own = list(pairs)
            of_prompt = said.get(own[0][0].id, ())
            yield own[0][0], [Candidate(trace, verdicts.get(trace.id), _values([*of_prompt, *said.get(trace.id, ())]))
                              for _, trace in own]


def trainable(store: Store, trace_ids: Sequence[str], form: Format, scope: FactScope | None = None,
              ) -> Iterator[tuple[Prompt, list[Candidate], list[Candidate]]]:
    """Prompt by prompt: the traces that the format may lay out, and those that it may not, because the file that they
    came from says that they are wrong and the format shows nothing of that kind."""
    vetoed = store.vetoed(trace_ids) if -1 not in form.signs else set()
    for prompt, traces in candidates(store, trace_ids, scope):
        yield (prompt, [one for one in traces if one.trace.id not in vetoed],
               [one for one in traces if one.trace.id in vetoed])


def _values(facts: Sequence[Fact]) -> dict[str, float | str]:
    """The facts under the names of their columns."""
    found: dict[str, float | str] = {}
    for fact in facts:
        found |= {f"{fact.by}_{metric}": value for metric, value in fact.metrics.items()}
        if fact.value is not None:
            found[fact.by] = fact.value
    return found
