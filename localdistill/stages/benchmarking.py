"""Measuring one model on one benchmark: it answers the items under the recipe's limits, the benchmark's grader judges,
and the answers are an artifact, so that no model answers twice. Shared by evaluation and export; compares nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Emit, Progressed, Warned, stamped
from localdistill.core.records import Prompt
from localdistill.filters.overlap import contaminated
from localdistill.graders import GRADERS
from localdistill.recipe import Member
from localdistill.safety.files import atomic_write_text
from localdistill.scorecard import ContestantResult, ItemResult
from localdistill.scorecard.card import items_from_text, items_to_text
from localdistill.stages.context import StageContext
from localdistill.stages.item_replies import OpenItem, judge_of, result_of
from localdistill.stages.outputs import ArmAdapter, ArmDataset
from localdistill.tasks.base import Given, Task

VERSION = 2
MOST_REASONS = 3
_ITEMS = "items.jsonl"


@dataclass(frozen=True)
class Bench:
    """One benchmark of the recipe: its task and the items that are asked."""

    member: Member
    task: Task
    prompts: Sequence[Prompt]

    @property
    def judged_by(self) -> str:
        """The grader, for people."""
        return self.task.grader or "a rule of its own"


@dataclass(frozen=True)
class Contestant:
    """One model under test: the base, one arm trained with one seed, or a form of either."""

    name: str
    """`base`, or the arm's."""
    dataset: ArmDataset | None = None
    """What it was trained on; None for the base."""
    adapter: ArmAdapter | None = None
    form: str = ""
    """`merged`, or the name of an exported file; empty for the model as it was trained."""

    @property
    def label(self) -> str:
        """Its name for people, and the seed when it was trained."""
        return self.form or self.name + (f", seed {self.seed}" if self.adapter else "")

    @property
    def seed(self) -> int:
        """Seed of its training; 0 for the base."""
        return self.adapter.seed if self.adapter else 0

    @property
    def thinks(self) -> bool | None:
        """Whether it was trained to think; None for the base, whose template decides."""
        return self.dataset.facts.thinks if self.dataset else None

    def tells(self, emit: Emit) -> Emit:
        """`emit` for what is said of this contestant."""
        trained = self.adapter is not None
        return stamped(emit, arm=self.name if trained else "", seed=self.seed if trained else None,
                       contestant=self.form or self.name)

    def result(self, items: tuple[ItemResult, ...], name: str = "") -> ContestantResult:
        """What it answered, for a score card; under `name` where that is given."""
        return ContestantResult(
            name=name or self.form or self.name,
            seed=self.seed,
            format=self.dataset.facts.title if self.dataset else "",
            thinks=bool(self.thinks),
            trained_tokens=self.adapter.result.trained_tokens if self.adapter and not self.form else 0,
            stopped_early=self.adapter.result.stopped_early if self.adapter else "",
            items=items,
        )


BASE = Contestant("base")


@dataclass(frozen=True)
class Serving:
    """How a contestant is served."""

    engine: Member
    """Who answers, with the model's place on this machine among the options."""
    told: Mapping[str, Any]
    """The engine's options that decide what it answers, without places."""
    inputs: Sequence[str]
    """Digests of the files that answer."""


def benches(context: StageContext, warns: bool = True) -> list[Bench]:
    """The benchmarks of the recipe with their clean items. `warns` says whether to speak of what is left out."""
    section = context.recipe.evaluate
    members, collected = section.tasks if section else (), collected_questions(context)
    tasks = zip(members, context.tasks(), strict=True)
    return [Bench(member, task, clean_prompts(context, task, collected, warns)) for member, task in tasks]


def collected_questions(context: StageContext) -> set[str]:
    """The questions of every trace that the run collected or selected.

    Every collected prompt counts, not only those whose traces were selected: it could have been trained on, and what
    a score is measured on must not depend on how a filter went.
    """
    ids = [*context.run.ids("collect"), *context.run.ids("select")]
    found = context.store.batches(["question"], ids=list(dict.fromkeys(ids)))
    return {text for batch in found for text in batch.column("question").to_pylist() if text is not None}


def clean_prompts(context: StageContext, task: Task, collected: set[str], warns: bool = True) -> list[Prompt]:
    """The task's items without those whose question was collected (unless the recipe keeps them)."""
    assert context.recipe.evaluate is not None
    prompts = list(task.prompts())
    planted = set(contaminated(collected, [prompt.question for prompt in prompts]))
    if not planted:
        return prompts
    exclude = context.recipe.evaluate.exclude_contaminated
    if warns or not exclude:
        context.warn(
            f"{len(planted)} of {len(prompts)} items of '{task.name}' are among the prompts to train on; "
            + ("they are left out" if exclude else "their scores are worthless, and they are counted in"),
            "" if exclude else "set evaluate.exclude_contaminated = true",
        )
    clean = [p for i, p in enumerate(prompts) if i not in planted] if exclude else prompts
    if not clean:
        what = f"every item of '{task.name}' is among the prompts to train on"
        raise LocalDistillError(what, "evaluate on another task")
    return clean


def measure(context: StageContext, bench: Bench, contestant: Contestant,
            serving: Serving) -> tuple[str, tuple[ItemResult, ...]]:
    """The contestant's results, from their artifact or measured now, and that artifact's digest."""
    section = context.recipe.evaluate
    assert section is not None
    grader = GRADERS.load(bench.task.grader) if bench.task.grader else None
    spec = {
        "task": bench.member.model_dump(mode="json"),
        "grader": f"{grader.name}@{grader.version}" if grader else "",
        **({"version": bench.task.version} if bench.task.version > 1 else {}),
        "items": [p.id for p in bench.prompts],
        "max_tokens": section.max_tokens,
        "thinks": contestant.thinks,
        "engine": dict(serving.told),
    }
    digest = context.workspace.artifact_digest("answers", VERSION, spec, serving.inputs)
    label = f"{bench.task.name}: {contestant.label}"

    def build(staging: Path) -> None:
        results = _answer(context, bench, contestant, serving, label)
        atomic_write_text(staging / _ITEMS, items_to_text(results))

    artifact = context.make(("answers", digest, label), {"inputs": list(serving.inputs)}, build,
                            emit=contestant.tells(context.emit))
    results = items_from_text(artifact.file(_ITEMS).read_text(), f"{_ITEMS} of the answers {digest}")
    _say_unanswered(context, contestant, label, results)
    return digest, results


def _say_unanswered(context: StageContext, contestant: Contestant, label: str, results: Sequence[ItemResult]) -> None:
    """Items without any reply are in the score as wrong ones: say how many, and why."""
    errors = Counter(result.error for result in results if result.error)
    if errors:
        why = "; ".join(f"{count} x {error}" for error, count in errors.most_common(MOST_REASONS))
        contestant.tells(context.emit)(Warned(
            f"{label}: {errors.total()} of {len(results)} items got no reply and count as wrong: {why}",
            "shorten the items or give the engine more context_tokens"))


def _answer(context: StageContext, bench: Bench, contestant: Contestant, serving: Serving,
            label: str) -> list[ItemResult]:
    assert context.recipe.evaluate is not None
    given = Given(context.recipe.evaluate.max_tokens, contestant.thinks)
    items = [OpenItem(place, prompt, bench.task.requests(prompt, given)) for place, prompt in enumerate(bench.prompts)]
    item_of = {request_id: item for item in items for request_id in item.requests}
    right, done, emit = 0.0, 0, contestant.tells(context.emit)
    asked = (request for item in items for request in item.requests.values())
    with context.engine(serving.engine) as engine, judge_of(context, bench.task, engine, emit) as judge:
        for reply in engine.answer(asked, emit, context.cancel):
            item = item_of[reply.request_id]
            item.replies[reply.request_id] = reply
            if not item.is_answered:
                continue
            item.result = result_of(bench.task, item, judge)
            right, done = right + item.result.score, done + 1
            emit(Progressed(label, done, len(items), "items", {"right": right}))
    context.cancel.check()
    answered = [item.result for item in items if item.result is not None]
    if len(answered) < len(items):
        what = f"{label} answered only {len(answered)} of {len(items)} items"
        raise LocalDistillError(what, f"localdistill resume {context.run.id} asks again")
    if answered and all(result.error for result in answered):
        raise LocalDistillError(f"{label}: no item could be answered: {answered[0].error}", "evaluate on another task")
    return answered
