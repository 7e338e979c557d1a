"""evaluate: the base and every adapter answer the same items under the same limits; graders judge, and the score card
compares them in pairs. Nothing here knows what an arm is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localdistill.core.events import Noted
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Member
from localdistill.scorecard import ItemResult, ScoreCard, ScoreCards, build_score_card, choose_arm, to_markdown, to_text
from localdistill.stages.benchmarking import BASE, Bench, Contestant, Serving, benches, measure
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import (
    SCORECARD_FILE,
    EvaluateOutput,
    FormatOutput,
    TrainOutput,
    read_output,
    write_output,
)
from localdistill.trainers.report import REPORT_FILE, HeldBase, TrainingReport

VERSION = 1


def run(context: StageContext) -> None:
    """Leave the score card of every task, and the arm that may be exported unasked."""
    field = contestants(context)
    cards, answers = [], []
    for bench in benches(context):
        results = []
        for contestant in field:
            digest, items = answers_of(context, bench, contestant)
            answers.append(digest)
            results.append(contestant.result(items))
        task = bench.task
        card = build_score_card(results, base=BASE.name, task=task.name, grader=task.grader, is_guard=task.is_guard)
        cards.append(card)
        context.emit(Noted(to_text(card)))
    digest = _write(context, cards, answers)
    choice = choose_arm(cards)
    if choice.candidates:
        context.note(f"best: {'' if choice.arm else 'none, '}{choice.reason}")
    write_output(context.run, EvaluateOutput(digest, choice.arm))


def contestants(context: StageContext) -> list[Contestant]:
    """The base and every adapter of the run."""
    adapters = read_output(context.run, TrainOutput).adapters if context.recipe.train else {}
    arms = read_output(context.run, FormatOutput).arms if context.recipe.arms else {}
    return [BASE, *(Contestant(name, arms[name], adapter) for name, found in adapters.items() for adapter in found)]


def answers_of(context: StageContext, bench: Bench, contestant: Contestant) -> tuple[str, tuple[ItemResult, ...]]:
    """The digest and the results of one contestant, which answers as it was trained: adapter beside the base."""
    section = context.recipe.evaluate
    assert section is not None
    adapter = contestant.adapter.adapter if contestant.adapter else ""
    told = {**_as_trained(context, adapter), **section.engine_options}
    options = {**told, "model": str(context.student)}
    if adapter:
        options["adapter"] = str(context.artifact("adapter", adapter).path / "adapter")
    inputs = [adapter, ModelFolder.open(context.student).digest()]
    return measure(context, bench, contestant, Serving(Member(use="transformers", options=options), told, inputs))


def _as_trained(context: StageContext, adapter: str) -> dict[str, Any]:
    """Engine options that hold the base as the adapter's training held it. Quantized weights differ from the stored
    ones, and the adapter was fitted to them; plain ones need nothing."""
    held = held_in_training(context, adapter) if adapter else None
    return {"quantization": held.quantization, "dtype": held.dtype} if held and held.quantization != "none" else {}


def held_in_training(context: StageContext, adapter: str) -> HeldBase | None:
    """How the base was held while the adapter was trained; None when its report does not say."""
    report = context.artifact("adapter", adapter).path / REPORT_FILE
    if not report.is_file():
        return None
    return TrainingReport.from_bytes(report.read_bytes(), f"{REPORT_FILE} of the adapter {adapter}").base


def _write(context: StageContext, cards: Sequence[ScoreCard], answers: Sequence[str]) -> str:
    data = [card.to_json() for card in cards]
    digest = context.workspace.artifact_digest("scorecard", VERSION, {"cards": data}, answers)

    def build(staging: Path) -> None:
        (staging / SCORECARD_FILE).write_bytes(ScoreCards(tuple(cards)).to_bytes())
        (staging / "scorecard.md").write_text("\n\n".join(to_markdown(card) for card in cards))
        (staging / "scorecard.txt").write_text("\n\n".join(to_text(card) for card in cards))

    context.make(("scorecard", digest, context.recipe.name), {"inputs": list(answers)}, build)
    return digest
