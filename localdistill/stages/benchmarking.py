"""Measuring one model on one benchmark: it answers the items under the recipe's limits, the benchmark's grader judges,
and the answers are an artifact, so that no model answers twice. Shared by evaluation and export; compares nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from localdistill.core.capabilities import Computing
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Emit, Noted, Progressed, Warned, stamped
from localdistill.core.means import Means
from localdistill.core.records import Prompt
from localdistill.filters.overlap import contaminated
from localdistill.graders import GRADERS
from localdistill.recipe import Member
from localdistill.recipe.sections import SamplingSection
from localdistill.safety.files import atomic_write_bytes, atomic_write_text
from localdistill.scorecard import ContestantResult, ItemResult
from localdistill.scorecard.card import items_to_text
from localdistill.stages.answers import ITEMS_FILE, SERVED_FILE, AnsweringPace, ServedAnswers, items_of, served_of
from localdistill.stages.context import StageContext
from localdistill.stages.item_replies import Answerer, OpenItem, TaskScorer, replies_to_text, scorer_of, take_replies
from localdistill.stages.outputs import ArmAdapter, ArmDataset
from localdistill.stages.relay import EngineRelay
from localdistill.stages.reply_journal import ReplyJournal
from localdistill.tasks.base import Given, Task
from localdistill.workspace.folder import SCRATCH

VERSION = 2
REPLIES_VERSION = 1
MOST_REASONS = 3
_REPLIES, _JOURNAL = "replies.jsonl", "replies.journal"


@dataclass(frozen=True)
class Bench:
    """One benchmark of the recipe: its task and the items that are asked."""

    member: Member
    task: Task
    prompts: Sequence[Prompt]
    planted: int = 0
    """Items whose question is among those to train on."""
    total: int = 0
    """All items, also those that are left out."""

    @property
    def judged_by(self) -> str:
        """The rule, or the grader, for people."""
        return self.task.rule or self.task.grader

    @property
    def metrics(self) -> Mapping[str, str]:
        """What each metric of its items means."""
        of_grader = GRADERS.load(self.task.grader).metrics if self.task.grader else {}
        return {**of_grader, **self.task.metrics}

    def sampling(self, section: SamplingSection | None) -> SamplingSection | None:
        """What a recipe says of drawing, as far as it concerns this task: likelihoods are not drawn."""
        return section if self._temperatures else None

    def sampler(self, section: SamplingSection | None) -> str:
        """How replies are drawn, in words: as the recipe says, or else the task."""
        if not self._temperatures:
            return "none, nothing is written"
        if section is not None:
            return section.told()
        warmest = max(self._temperatures)
        return f"temperature {warmest:g}, as the task says" if warmest else SamplingSection().told()

    @cached_property
    def _temperatures(self) -> set[float]:
        """Of the replies that the task asks to be written, by its first item; empty where it asks for none."""
        asked = self.task.requests(self.prompts[0], Given(1, None)) if self.prompts else ()
        return {request.sampling.temperature for request in asked if request.kind == "generate"}


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
        """Whether it was trained to think; None for the base and for what was trained to do both, whose template
        decides."""
        return self.dataset.facts.thinks if self.dataset else None

    def tells(self, emit: Emit) -> Emit:
        """`emit` for what is said of this contestant."""
        trained = self.adapter is not None
        return stamped(emit, arm=self.name if trained else "", seed=self.seed if trained else None,
                       contestant=self.form or self.name)

    def result(self, measured: MeasuredAnswers, name: str = "") -> ContestantResult:
        """What it answered, for a score card; under `name` where that is given."""
        return ContestantResult(
            name=name or self.form or self.name,
            seed=self.seed,
            format=self.dataset.facts.title if self.dataset else "",
            thinks=self.dataset is not None and self.thinks is not False,
            trained_tokens=self.adapter.result.trained_tokens if self.adapter and not self.form else 0,
            stopped_early=self.adapter.result.stopped_early if self.adapter else "",
            items=measured.items,
            served=measured.served,
            kept=self.adapter.result.came_out if self.adapter else "",
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


@dataclass(frozen=True)
class MeasuredAnswers:
    """What one contestant answered on one benchmark."""

    answers: str
    """Digest of the artifact."""
    items: tuple[ItemResult, ...]
    served: Mapping[str, str]
    """What made the answers; empty where an older version wrote them."""


def benches(context: StageContext, warns: bool = True) -> list[Bench]:
    """The benchmarks of the recipe with their clean items. `warns` says whether to speak of what is left out."""
    section = context.recipe.evaluate
    members, collected = section.tasks if section else (), collected_questions(context)
    tasks = zip(members, context.tasks(), strict=True)
    return [_bench(context, member, task, collected, warns) for member, task in tasks]


def collected_questions(context: StageContext) -> set[str]:
    """The questions of every trace that the run collected or selected.

    Every collected prompt counts, not only those whose traces were selected: it could have been trained on, and what
    a score is measured on must not depend on how a filter went.
    """
    ids = [*context.run.ids("collect"), *context.run.ids("select")]
    found = context.store.batches(["question"], ids=list(dict.fromkeys(ids)))
    return {text for batch in found for text in batch.column("question").to_pylist() if text is not None}


def _bench(context: StageContext, member: Member, task: Task, collected: set[str], warns: bool) -> Bench:
    """The benchmark, without the items whose question was collected (unless the recipe keeps them)."""
    assert context.recipe.evaluate is not None
    prompts = list(task.prompts())
    planted = set(contaminated(collected, [prompt.question for prompt in prompts]))
    if not planted:
        return Bench(member, task, prompts, 0, len(prompts))
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
    return Bench(member, task, clean, len(planted), len(prompts))


def measure(context: StageContext, bench: Bench, contestant: Contestant, serving: Serving,
            relay: EngineRelay | None = None) -> MeasuredAnswers:
    """The contestant's results, from their artifact or measured now. relay: whose engines follow each other, where the
    next contestant may go on with what this one loads."""
    label = f"{bench.task.name}: {contestant.label}"
    means = Means(emit=contestant.tells(context.emit), cancel=context.cancel)
    with ExitStack() as stack:
        scorer = stack.enter_context(scorer_of(context, bench.task, means))
        relay = relay or stack.enter_context(closing(EngineRelay(context)))
        work = _Measurement(context, bench, contestant, serving, scorer, label, relay)
        spec = {**work.spec, "grader": scorer.grader}
        digest = context.workspace.artifact_digest("answers", VERSION, spec, serving.inputs)

        def build(staging: Path) -> None:
            atomic_write_text(staging / ITEMS_FILE, items_to_text(work.results(staging)))

        artifact = context.make(("answers", digest, label), {"inputs": list(serving.inputs)}, build, emit=means.emit)
    results = items_of(artifact)
    _say_unanswered(context, contestant, label, results)
    return MeasuredAnswers(digest, results, served_of(artifact).served)


def _say_unanswered(context: StageContext, contestant: Contestant, label: str, results: Sequence[ItemResult]) -> None:
    """Items without any reply, or without a verdict, are in the score as wrong ones: say how many, and why."""
    errors = Counter(result.error for result in results if result.error)
    if errors:
        contestant.tells(context.emit)(Warned(
            f"{label}: {errors.total()} of {len(results)} items got no reply and count as wrong: {_most(errors)}",
            "shorten the items or give the engine more context_tokens"))
    undecided = Counter(result.undecided for result in results if result.undecided and not result.error)
    if undecided:
        contestant.tells(context.emit)(Warned(
            f"{label}: {undecided.total()} of {len(results)} items could not be judged and count as wrong: "
            f"{_most(undecided)}", "look at what the grader asks for, or choose another one"))


def _most(reasons: Counter[str]) -> str:
    """The most frequent of them."""
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(MOST_REASONS))


@dataclass(frozen=True)
class _Measurement:
    """One contestant that answers the items of one benchmark."""

    context: StageContext
    bench: Bench
    contestant: Contestant
    serving: Serving
    scorer: TaskScorer
    label: str
    relay: EngineRelay

    @property
    def given(self) -> Given:
        """What every contestant is given alike."""
        assert self.context.recipe.evaluate is not None
        return Given(self.context.recipe.evaluate.max_tokens, self.contestant.thinks)

    @property
    def spec(self) -> dict[str, Any]:
        """What decides the replies."""
        task = self.bench.task
        return {
            "task": self.bench.member.model_dump(mode="json"),
            **({"version": task.version} if task.version > 1 else {}),
            "items": [p.id for p in self.bench.prompts],
            "max_tokens": self.given.max_tokens,
            "thinks": self.contestant.thinks,
            "engine": dict(self.serving.told),
            **({"sampling": self.sampling.model_dump(mode="json")} if self.sampling else {}),
        }

    @property
    def sampling(self) -> SamplingSection | None:
        """How replies are drawn; None as the task says, and where nothing is drawn."""
        assert self.context.recipe.evaluate is not None
        return self.bench.sampling(self.context.recipe.evaluate.sampling)

    def results(self, folder: Path) -> list[ItemResult]:
        """Ask, and score: each item as its replies come; or, by a grader that asks an engine, all of them once the
        student has answered and is gone. What made the answers is left in `folder`."""
        items = [OpenItem(place, prompt, self.bench.task.requests(prompt, self.given), self.sampling)
                 for place, prompt in enumerate(self.bench.prompts)]
        if not self.scorer.asks:
            self._tell(self.scorer.score(item, who) for item, who in self._answered(items, folder))
        else:
            who = self._kept_replies(items, folder)
            self.relay.close()
            self._tell(self.scorer.score_all(items, who, self.label))
        results = [item.result for item in items if item.result is not None]
        if results and all(result.error for result in results):
            what = f"{self.label}: no item could be answered: {results[0].error}"
            raise LocalDistillError(what, "evaluate on another task")
        return results

    def _tell(self, results: Iterable[ItemResult]) -> None:
        """Tell how far it is, and how many are right."""
        right, emit = 0.0, self.contestant.tells(self.context.emit)
        for done, result in enumerate(results, start=1):
            right += result.score
            emit(Progressed(self.label, done, len(self.bench.prompts), "items", {"right": right}))

    def _answered(self, items: Sequence[OpenItem], folder: Path) -> Iterator[tuple[OpenItem, Answerer]]:
        """The items as they have all their replies. Those that a killed measurement left are not asked for again."""
        context, emit, done = self.context, self.contestant.tells(self.context.emit), 0
        requests = {request_id: item for item in items for request_id in item.requests}
        began = time.monotonic()
        with self.relay.engine(self.serving.engine) as engine:
            who = Answerer.of(engine)
            with closing(ReplyJournal(folder / SCRATCH[0] / _JOURNAL, who.engine, who.model)) as journal:
                known = journal.known(requests)
                if known:
                    emit(Noted(f"{self.label}: {len(known):,} of {len(requests):,} replies are there from before"))
                left = [item.requests[request_id] for request_id, item in requests.items() if request_id not in known]
                asked = engine.answer(left, emit, context.cancel) if left else ()
                for reply in chain(known.values(), asked):
                    if reply.request_id not in known:
                        journal.keep(reply)
                    item = requests[reply.request_id]
                    item.replies[reply.request_id] = reply
                    if item.is_answered:
                        done += 1
                        yield item, who
            served = {"engine": who.engine, **(engine.computes_with() if isinstance(engine, Computing) else {})}
        context.cancel.check()
        if done < len(items):
            what = f"{self.label} answered only {done} of {len(items)} items"
            raise LocalDistillError(what, f"localdistill resume {context.run.id} asks again")
        student = context.recipe.student
        pace = AnsweringPace.of(student.model if student else "", self.bench.task.name, [
            reply for item in items for reply in item.replies.values() if reply.request_id not in known],
            time.monotonic() - began)
        atomic_write_bytes(folder / SERVED_FILE, ServedAnswers(served, pace).to_bytes())

    def _kept_replies(self, items: Sequence[OpenItem], folder: Path) -> Answerer:
        """The replies to all items, from their artifact or asked for now: whatever becomes of the judge, the student
        answers once."""
        context, emit, inputs = self.context, self.contestant.tells(self.context.emit), list(self.serving.inputs)
        digest = context.workspace.artifact_digest("replies", REPLIES_VERSION, self.spec, inputs)

        def build(staging: Path) -> None:
            said: list[Answerer] = []
            for _, who in self._answered(items, staging):
                said.append(who)
                emit(Progressed(f"{self.label}, replies", len(said), len(items), "items"))
            atomic_write_text(staging / _REPLIES, replies_to_text(items, said[0]))

        artifact = context.make(("replies", digest, self.label), {"inputs": inputs}, build, emit=emit)
        if SERVED_FILE in artifact.manifest["files"]:
            atomic_write_bytes(folder / SERVED_FILE, artifact.file(SERVED_FILE).read_bytes())
        text = artifact.file(_REPLIES).read_text()
        return take_replies(text, items, f"{_REPLIES} of the replies {digest}")
