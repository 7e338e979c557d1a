"""evaluate: the base and every adapter answer the same items under the same limits; graders judge, and the score card
compares them in pairs. Nothing here knows what an arm is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.events import Noted
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Member
from localdistill.scorecard import (
    Contestant,
    ItemResult,
    ScoreCard,
    build_score_card,
    choose_arm,
    to_markdown,
    to_text,
)
from localdistill.stages.context import StageContext
from localdistill.stages.measuring import Bench, Subject, benches, measure

VERSION = 1


@dataclass(frozen=True)
class Entrant:
    """One model to measure: the base (no adapter) or one trained arm with one seed."""

    name: str
    seed: int
    adapter: str
    thinks: bool | None
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Its name, and the seed when it was trained."""
        return self.name + (f", seed {self.seed}" if self.adapter else "")


BASE = Entrant("base", 0, "", None, {})


def run(context: StageContext) -> None:
    """Leave the score card of every task, and the arm that may be exported unasked."""
    field = entrants(context)
    cards, answers = [], []
    for bench in benches(context):
        contestants = []
        for entrant in field:
            digest, items = answers_of(context, bench, entrant)
            answers.append(digest)
            contestants.append(contestant(entrant, items))
        task = bench.task
        card = build_score_card(contestants, base="base", task=task.name, grader=task.grader, is_guard=task.is_guard)
        cards.append(card)
        context.emit(Noted(to_text(card)))
    digest = _write(context, cards, answers)
    choice = choose_arm(cards)
    if choice.candidates:
        context.note(f"best: {'' if choice.arm else 'none, '}{choice.reason}")
    context.run.write_output("evaluate", {"scorecard": digest, "best": choice.arm})


def entrants(context: StageContext) -> list[Entrant]:
    """The base and every adapter of the run."""
    adapters = context.run.output("train")["adapters"] if context.recipe.train else {}
    arms = context.run.output("format")["arms"] if context.recipe.arms else {}
    trained = [
        Entrant(name, item["seed"], item["adapter"], arms[name]["thinks"], {**arms[name], **item})
        for name, items in adapters.items()
        for item in items
    ]
    return [BASE, *trained]


def answers_of(context: StageContext, bench: Bench, entrant: Entrant) -> tuple[str, tuple[ItemResult, ...]]:
    """The digest and the results of one entrant, which answers as it was trained: adapter beside the base."""
    section = context.recipe.evaluate
    assert section is not None
    told = {**_as_trained(context, entrant.adapter), **section.engine_options}
    options = {**told, "model": str(context.student)}
    if entrant.adapter:
        options["adapter"] = str(context.artifact("adapter", entrant.adapter).path / "adapter")
    inputs = [entrant.adapter, ModelFolder.open(context.student).digest()]
    subject = Subject(entrant.label, Member(use="transformers", options=options), told, inputs, entrant.thinks)
    return measure(context, bench, subject)


def _as_trained(context: StageContext, adapter: str) -> dict[str, Any]:
    """Engine options that hold the base as the adapter's training held it. Quantized weights differ from the stored
    ones, and the adapter was fitted to them; plain ones need nothing."""
    held = held_in_training(context, adapter) if adapter else {}
    return held if held.get("quantization", "none") != "none" else {}


def held_in_training(context: StageContext, adapter: str) -> dict[str, str]:
    """`quantization` and `dtype` of the base while the adapter was trained; empty when its report does not say."""
    report = context.artifact("adapter", adapter).path / "training.json"
    return dict(json.loads(report.read_text()).get("base", {})) if report.is_file() else {}


def contestant(entrant: Entrant, items: tuple[ItemResult, ...]) -> Contestant:
    """The entrant's line of the score card."""
    facts = entrant.facts
    return Contestant(
        name=entrant.name,
        seed=entrant.seed,
        format=_layout(facts),
        thinks=bool(entrant.thinks),
        trained_tokens=int(facts.get("trained_tokens", 0)),
        stopped_early=str(facts.get("stopped_early", "")),
        items=items,
    )


def _layout(facts: Mapping[str, Any]) -> str:
    """The format, and the rewrite whose traces it laid out."""
    rewrite = facts.get("rewrite")
    return f"{facts.get('format', '')}" + (f" of {rewrite}" if rewrite else "")


def _write(context: StageContext, cards: Sequence[ScoreCard], answers: Sequence[str]) -> str:
    data = [card.to_json() for card in cards]
    digest = context.workspace.artifact_digest("scorecard", VERSION, {"cards": data}, answers)

    def build(staging: Path) -> None:
        (staging / "scorecard.json").write_text(json.dumps(data, indent=1))
        (staging / "scorecard.md").write_text("\n\n".join(to_markdown(card) for card in cards))
        (staging / "scorecard.txt").write_text("\n\n".join(to_text(card) for card in cards))

    context.make(("scorecard", digest, context.recipe.name), {"inputs": list(answers)}, build)
    return digest
