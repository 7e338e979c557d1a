"""What of a score may be memory: how many items are among the prompts to train on, whose knowledge of published items
nobody can rule out, and what twins of the items say. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localdistill.recipe.sections import EvaluateSection
from localdistill.scorecard import ContestantResult
from localdistill.scorecard.leaks import check_leaks, told_leaks
from localdistill.stages.benchmarking import BASE, Bench
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import FormatOutput, read_output

MOST_NAMED = 3


def teachers_of(context: StageContext) -> tuple[str, ...]:
    """The models that wrote what the arms learn from, each once; those of traces that do not say it are not among
    them."""
    if not context.recipe.arms:
        return ()
    arms = read_output(context.run, FormatOutput).arms
    ids = dict.fromkeys(trace for arm in arms.values() for _, trace in context.store.lineage(arm.dataset))
    found = context.store.batches(["model"], ids=list(ids))
    return tuple(sorted({text for batch in found for text in batch.column("model").to_pylist() if text}))


def leaks_of(bench: Bench, found: Mapping[str, Sequence[ContestantResult]], section: EvaluateSection,
             teachers: Sequence[str]) -> tuple[str, ...]:
    """What the card of `bench` says. found: what every contestant answered, by task; teachers: of the arms."""
    name, task = bench.task.name, bench.task
    twins = section.twins.get(name, "")
    said = []
    if task.is_published or bench.planted:
        kept = "" if not bench.planted else "; they are left out" if section.exclude_contaminated else \
            "; they are counted in, and the scores are worthless"
        said.append(f"{bench.planted:,} of {bench.total:,} items are among the prompts to train on{kept}.")
    if task.is_published and teachers:
        way = f"the twins ({twins}) speak of it" if twins else "twins of the items would tell (evaluate.twins)"
        said.append(f"{name} is published, and nothing is known of what {_named(teachers)} was trained on: what a "
                    "teacher remembers of the items can reach an arm through other questions, and no look at the "
                    f"training rows finds that; {way}.")
    if twins:
        said += told_leaks(check_leaks(found[name], found[twins], BASE.name), twins)
    return tuple(said)


def _named(teachers: Sequence[str]) -> str:
    """The teachers, or the first of many."""
    shown = [teacher.rsplit("/", 1)[-1] for teacher in teachers[:MOST_NAMED]]
    more = len(teachers) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more else "")
