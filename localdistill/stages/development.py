"""Development items of a run: which there are, once what is scored or trained on is left out of them, and how a student
in training is scored on them. Decides nothing: the training loop does, by what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.means import Means
from localdistill.core.records import Prompt, Reply, content_id
from localdistill.filters.overlap import ItemIndex, contaminated
from localdistill.graders import GRADERS
from localdistill.recipe.development import DevSection
from localdistill.recipe.sections import EvaluateSection
from localdistill.stages.benchmarking import collected_questions
from localdistill.stages.context import StageContext
from localdistill.stages.item_replies import Answerer, OpenItem, TaskScorer, scorer_of
from localdistill.tasks.base import Given, Task
from localdistill.trainers.job import DevItems
from localdistill.trainers.report import RESULT_FILE, TrainingResult
from localdistill.workspace.folder import Workspace

DEFAULT_MAX_TOKENS = 1024
"""New tokens of a reply where neither the section nor an evaluation says how many."""


@dataclass(frozen=True)
class CleanItems:
    """The items of a development task, without what it must not ask."""

    prompts: tuple[Prompt, ...]
    scored: int = 0
    """Left out because a benchmark of the recipe scores them."""
    trained: int = 0
    """Left out because they are among the prompts to train on."""


def clean_items(items: Sequence[Prompt], scored: Sequence[Prompt], trained: set[str]) -> CleanItems:
    """`items` without those that are among `scored`, the same or nearly, or in `trained`, the questions to train on.
    LocalDistillError where none is left."""
    questions = [item.question for item in items]
    asked, index = {prompt.messages for prompt in scored}, ItemIndex(prompt.question for prompt in scored)
    among_scored = {place for place, item in enumerate(items)
                    if item.messages in asked or index.why(item.question)[0] >= 0}
    among_scored |= set(contaminated([prompt.question for prompt in scored], questions))
    among_trained = set(contaminated(trained, questions)) - among_scored
    left = tuple(item for place, item in enumerate(items) if place not in among_scored | among_trained)
    found = CleanItems(left, len(among_scored), len(among_trained))
    if not left:
        raise LocalDistillError(
            f"no development item is left: of {len(items)}, {found.scored} are scored by a benchmark of the recipe and "
            f"{found.trained} are trained on",
            "take other items, or set some aside: [prompts] holdout = { dev = 0.05 }")
    return found


def most_tokens(section: DevSection, evaluate: EvaluateSection | None) -> int:
    """Most new tokens of a reply."""
    return section.max_tokens or (evaluate.max_tokens if evaluate else DEFAULT_MAX_TOKENS)


def last_measurement_s(workspace: Workspace) -> float | None:
    """How long one measurement of development items took in the newest training of `workspace` that had any, whichever
    student and items these were; None where none had."""
    for artifact in workspace.newest_artifacts("adapter"):
        try:
            dev = TrainingResult.from_bytes(artifact.file(RESULT_FILE).read_bytes(), RESULT_FILE).dev
        except (LocalDistillError, OSError):  # whoever uses the adapter says what is wrong with it
            continue
        if dev is not None and dev.points:
            return dev.elapsed_s / len(dev.points)
    return None


def require_rule(task: Task) -> None:
    """UsageError for a task whose items cannot be answered and judged in the middle of a training."""
    asks = bool(task.grader) and bool(GRADERS.load(task.grader).Options.engine_fields())
    if asks or task.Options.engine_fields():
        raise UsageError(f"the development task {task.name} asks an engine for its verdicts, at every measurement",
                         "take a grader that judges by rule")
    items = task.prompts()
    if items and any(request.kind == "score" for request in task.requests(items[0], Given(1, None))):
        raise UsageError(f"the development task {task.name} scores continuations, and a student in training writes",
                         'set by = "generation"')


class Development:
    """The development items of one run, ready for every training."""

    def __init__(self, context: StageContext, section: DevSection, task: Task, scorer: TaskScorer) -> None:
        self._section, self._task, self._scorer = section, task, scorer
        scored = [prompt for one in context.tasks() for prompt in one.prompts()]
        found = clean_items(task.prompts(), scored, collected_questions(context))
        self._prompts = found.prompts
        if found.scored or found.trained:
            context.warn(f"{found.scored + found.trained} of {len(task.prompts())} development items are left out: "
                         f"{found.scored} are scored by a benchmark, {found.trained} are trained on")
        self._max_tokens = most_tokens(section, context.recipe.evaluate)

    def spec(self) -> Mapping[str, Any]:
        """What of it decides an adapter."""
        section, task = self._section, self._task
        return {"items": content_id("dev", [prompt.id for prompt in self._prompts]), "task": task.name,
                "task_version": task.version, "grader": self._scorer.grader, "max_tokens": self._max_tokens,
                "every_steps": section.every_steps, "patience": section.patience, "keep": section.keep}

    def items(self, who: str, thinks: bool | None) -> DevItems:
        """For one training. who: its arm; thinks: whether it is trained to."""
        answerer, given = Answerer("training", who), Given(self._max_tokens, thinks)

        def opened() -> list[OpenItem]:
            return [OpenItem(place, prompt, self._task.requests(prompt, given))
                    for place, prompt in enumerate(self._prompts)]

        def score(replies: Sequence[Reply]) -> Mapping[str, float]:
            items, came = opened(), {reply.request_id: reply for reply in replies}
            for item in items:
                item.replies = {request_id: came[request_id] for request_id in item.requests}
            results = [self._scorer.score(item, answerer) for item in items]
            return {"score": fmean(one.score for one in results), "tokens": fmean(one.answer_tokens for one in results),
                    "at limit": fmean(one.hit_limit for one in results)}

        requests = [request for item in opened() for request in item.requests.values()]
        section = self._section
        return DevItems(requests, score, section.every_steps, section.patience, section.keep == "best",
                        len(self._prompts))


@contextmanager
def development(context: StageContext) -> Iterator[Development | None]:
    """The development items of the run; None where the recipe has none. What scores them is closed at the end."""
    section = context.recipe.train.dev if context.recipe.train else None
    task = context.dev_task
    if section is None or task is None:
        yield None
        return
    require_rule(task)
    with scorer_of(context, task, Means(emit=context.emit, cancel=context.cancel)) as scorer:
        yield Development(context, section, task, scorer)
