"""evaluate: the base and every adapter answer the same items under the same limits; graders judge, and the score card
compares them in pairs. Nothing here knows what an arm is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localdistill.core.events import Noted
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Member
from localdistill.scorecard import (
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
from localdistill.stages.outputs import (
    SCORECARD_FILE,
    AnswersMade,
    EvaluateOutput,
    FormatOutput,
    TrainOutput,
    read_output,
    write_output,
)
from localdistill.stages.train import settled_arms, starts_first
from localdistill.trainers.job import Served

VERSION = 1


def run(context: StageContext) -> None:
    """Leave the score card of every task, and the arm that may be exported unasked."""
    section, train, field = context.recipe.evaluate, context.recipe.train, contestants(context)
    assert section is not None
    planned = train.seeds if train is not None and train.looks else 0
    cards, answers = [], list[AnswersMade]()
    for bench in benches(context):
        results = []
        for contestant in field:
            measured = answers_of(context, bench, contestant)
            answers.append(AnswersMade(bench.task.name, contestant.name, contestant.seed, measured.answers))
            results.append(contestant.result(measured))
        task = bench.task
        card = build_score_card(results, BASE.name, task.name, bench.judged_by, task.is_guard, bench.metrics,
                                section.guard_margin, bench.sampler(section.sampling), planned)
        cards.append(card)
        context.emit(Noted(to_text(card)))
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


def answers_of(context: StageContext, bench: Bench, contestant: Contestant) -> MeasuredAnswers:
    """The results of one contestant, which answers as it was trained: as its trainer says."""
    adapter = contestant.adapter.adapter if contestant.adapter else ""
    trained = context.artifact("adapter", adapter).path if adapter else None
    inputs = [adapter, ModelFolder.open(context.student).digest()]
    held = context.held_base
    served = context.trainer.served(context.student, trained, held.path if held else None)
    return measure(context, bench, contestant, serving_of(context, served, inputs))


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
