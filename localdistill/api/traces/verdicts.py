"""The table of verdicts of a run: what each grader said of each set, counted, with the means of its metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.core.events import Cancel
from localdistill.core.facts import FactMaker
from localdistill.core.records import Fact
from localdistill.graders import GRADERS
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import scope_of_run
from localdistill.stages.sets import collected_ids
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class SetVerdicts:
    """What one grader said of one set."""

    trace_set: str
    grader: str
    """With its version, and variant where it has one."""
    traces: int
    """Of the set; those that the grader has said nothing of are for other graders, or not judged yet."""
    right: int
    wrong: int
    undecided: int
    """It looked at them and could not decide."""
    metrics: Mapping[str, float]
    """Mean of each metric over the traces that have it."""

    @property
    def share(self) -> float | None:
        """Of those that it looked at, the right ones; what is undecided counts as wrong. None where it saw none."""
        seen = self.right + self.wrong + self.undecided
        return self.right / seen if seen else None


def verdicts_of(workspace: Workspace, run: RunFolder) -> list[SetVerdicts]:
    """Of every set that was collected and every grader that ran, in their orders."""
    recipe = run.recipe()
    context = StageContext(workspace, run, recipe, open_store(workspace), lambda event: None, Cancel())
    keys = [key for key in scope_of_run(run) or () if key[0] in GRADERS.names()]
    found = []
    for one in recipe.originals:
        ids = collected_ids(run, one.name)
        for key in keys:
            maker: type[FactMaker] = GRADERS.load(key[0])
            facts = context.store.facts(ids, [key])
            counts, values = Counter[bool | None](), defaultdict[str, list[float]](list)
            for said in facts.values():
                for fact in said:
                    counts[fact.passed] += 1
                    for metric, value in fact.metrics.items():
                        values[metric].append(value)
            means = {metric: sum(values[metric]) / len(values[metric]) for metric in maker.metrics if values[metric]}
            found.append(SetVerdicts(one.name, Fact("", *key).name, len(ids), counts[True], counts[False], counts[None],
                                     means))
    return found
