"""evaluate: the base and every adapter answer the same items under the same limits; graders judge, and the score card
compares them in pairs. Nothing here knows what an arm is called."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from localdistill.core.events import Noted
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Member
from localdistill.scorecard import (
    ContestantResult,
    ScoreCard,
    ScoreCards,
    build_score_card,
    choose_arm,
    is_settled,
    to_markdown,
    to_text,
)
from localdistill.stages.benchmarking import BASE, Bench, Contestant, MeasuredAnswers, Serving, benches, measure
from localdistill.stages.context import StageContext
from localdistill.stages.leaks import leaks_of, teachers_of
from localdistill.stages.outputs import (
    SCORECARD_FILE,
    AnswersMade,
    EvaluateOutput,
    FormatOutput,
    TrainOutput,
    has_output,
    read_output,
    write_output,
)
from localdistill.stages.relay import EngineRelay
from localdistill.stages.train import settled_arms, starts_first
from localdistill.trainers.job import Served
from localdistill.trainers.serving import served_base

VERSION = 1


def run(context: StageContext) -> None:
    """Leave the score card of every task, and the arm that may be exported unasked."""
    section, train, field = context.recipe.evaluate, context.recipe.train, contestants(context)
    assert section is not None
    planned = train.seeds if train is not None and train.looks else 0
    answers, found, cards = list[AnswersMade](), dict[str, list[ContestantResult]](), dict[str, ScoreCard]()
    taught, waiting = teachers_of(context), list[Bench]()
    with closing(EngineRelay(context)) as relay:
        for bench in benches(context):
            task, results = bench.task, list[ContestantResult]()
            for contestant in field:
                measured = answers_of(context, bench, contestant, relay)
                answers.append(AnswersMade(task.name, contestant.name, contestant.seed, measured.answers))
                results.append(contestant.result(measured))
            found[task.name] = results
            cards[task.name] = build_score_card(
                results, BASE.name, task.name, bench.judged_by, task.is_guard, bench.metrics, section.guard_margin,
                bench.sampler(section.sampling), planned)
            waiting.append(bench)
            for told in [one for one in waiting if section.twins.get(one.task.name, one.task.name) in found]:
                waiting.remove(told)
                name, leaks = told.task.name, leaks_of(told, found, section, taught)
                cards[name] = replace(cards[name], leaks=leaks)
                context.emit(Noted(to_text(cards[name])))
    _leave(context, list(cards.values()), answers, planned)


def _leave(context: StageContext, cards: Sequence[ScoreCard], answers: Sequence[AnswersMade], planned: int) -> None:
    """Keep the cards, and say what they choose."""
    digest = _write(context, cards, [one.answers for one in answers])
    choice = choose_arm(cards)
    if choice.candidates:
        context.note(f"best: {'' if choice.arm else 'none, '}{choice.reason}")
    settled = _settled(context, cards) if planned else {}
    write_output(context.run, EvaluateOutput(digest, choice.arm, tuple(answers), settled))


def _settled(context: StageContext, cards: Sequence[ScoreCard]) -> dict[str, int]:
    """Arm -> after how many seeds it needs no more: what was so before this leg stays so. An arm from which an open one
    starts is trained on with it."""
    assert context.recipe.train is not None
    seeds = context.seeds or context.recipe.train.seeds
    before = {arm: count for arm, count in settled_arms(context).items() if count < seeds}
    now = {arm.name for arm in context.recipe.arms if arm.name in before or is_settled(cards, arm.name)}
    for arm in reversed(starts_first(context.recipe.arms)):
        if arm.name not in now:
            now.discard(arm.start)
    found = {name: before.get(name, seeds) for name in now}
    new = sorted(found.keys() - before.keys())
    if new and seeds < context.recipe.train.seeds:
        context.note(f"settled after {seeds} seeds, and trained no further: {', '.join(new)}")
    return found


def contestants(context: StageContext) -> list[Contestant]:
    """The base and every adapter of the run."""
    adapters = read_output(context.run, TrainOutput).adapters if context.recipe.train else {}
    arms = read_output(context.run, FormatOutput).arms if context.recipe.arms else {}
    return [BASE, *(Contestant(name, arms[name], adapter) for name, found in adapters.items() for adapter in found)]


def answers_of(context: StageContext, bench: Bench, contestant: Contestant,
               relay: EngineRelay | None = None) -> MeasuredAnswers:
    """The results of one contestant, which answers as it was trained: as its trainer says. The base is held as its arms
    were. relay: see `measure`."""
    adapter = contestant.adapter.adapter if contestant.adapter else ""
    some = adapter or _some_adapter(context)
    trained = context.artifact("adapter", some).path if some else None
    held = context.held_base.path if context.held_base else None
    served = (context.trainer.served(context.student, trained, held) if adapter else
              served_base(context.trainer, context.student, trained, held))
    inputs = [adapter, ModelFolder.open(context.student).digest()]
    return measure(context, bench, contestant, serving_of(context, served, inputs), relay)


def _some_adapter(context: StageContext) -> str:
    """Digest of one that the run trained; all of them were fitted to a base that is held alike. Empty where there is
    none."""
    if context.recipe.train is None or not has_output(context.run, TrainOutput.stage):
        return ""
    trained = read_output(context.run, TrainOutput).adapters.values()
    return next((one.adapter for found in trained for one in found), "")


def serving_of(context: StageContext, served: Served, inputs: Sequence[str], final: bool = False) -> Serving:
    """What runs a model as `served` says, with the recipe's options for it. `final` weights are run as they are."""
    section = context.recipe.evaluate
    assert section is not None
    told = {key: value for key, value in {**served.options, **section.engine_options}.items()
            if not (final and key in served.of_weights)}
    return Serving(Member(use=served.engine, options={**told, **served.places}), told, inputs)


def _write(context: StageContext, cards: Sequence[ScoreCard], answers: Sequence[str]) -> str:
    data = [card.to_json() for card in cards]
    digest = context.workspace.artifact_digest("scorecard", VERSION, {"cards": data}, answers)

    def build(staging: Path) -> None:
        (staging / SCORECARD_FILE).write_bytes(ScoreCards(tuple(cards)).to_bytes())
        (staging / "scorecard.md").write_text("\n\n".join(to_markdown(card) for card in cards))
        (staging / "scorecard.txt").write_text("\n\n".join(to_text(card) for card in cards))

    context.make(("scorecard", digest, context.recipe.name), {"inputs": list(answers)}, build)
    return digest
