"""evaluate: the base and every adapter answer the same items under the same limits; graders judge, and the score card
compares them in pairs. Nothing here knows what an arm is called."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localdistill.errors import LocalDistillError
from localdistill.events import Noted, Progressed
from localdistill.filters.overlap import contaminated
from localdistill.graders import GRADERS
from localdistill.graders.base import Grader
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Member
from localdistill.records import Prompt, Request, Sampling, content_id, trace_of
from localdistill.safety.files import atomic_write_text
from localdistill.scorecard import Contestant, ItemResult, ScoreCard, build_score_card, to_markdown, to_text
from localdistill.stages.context import StageContext
from localdistill.tasks.base import Task

VERSION = 1


@dataclass(frozen=True)
class Entrant:
    """One model to measure: the base (no adapter) or one trained arm with one seed."""

    name: str
    seed: int
    adapter: str
    thinks: bool | None
    facts: Mapping[str, Any]


def run(context: StageContext) -> None:
    """Leave the score card of every task."""
    entrants = _entrants(context)
    cards, answers = [], []
    for member, task in zip(
        context.recipe.evaluate.tasks if context.recipe.evaluate else (), context.tasks(), strict=True
    ):
        prompts = clean_prompts(context, task)
        measured = [_measure(context, member, task, prompts, entrant) for entrant in entrants]
        answers += [digest for digest, _ in measured]
        contestants = [contestant for _, contestant in measured]
        card = build_score_card(contestants, base="base", task=task.name, grader=task.grader, is_guard=task.is_guard)
        cards.append(card)
        context.emit(Noted("evaluate", to_text(card)))
    digest = _write(context, cards, answers)
    context.run.write_output("evaluate", {"scorecard": digest, "best": _best(cards)})


def _entrants(context: StageContext) -> list[Entrant]:
    """The base and every adapter of the run."""
    adapters = context.run.output("train")["adapters"] if context.recipe.train else {}
    arms = context.run.output("format")["arms"] if context.recipe.arms else {}
    trained = [
        Entrant(name, item["seed"], item["adapter"], arms[name]["thinks"], {**arms[name], **item})
        for name, items in adapters.items()
        for item in items
    ]
    return [Entrant("base", 0, "", None, {}), *trained]


def clean_prompts(context: StageContext, task: Task) -> list[Prompt]:
    """The task's items without those whose question was collected (unless the recipe keeps them).

    Every collected prompt counts, not only those whose traces were selected: it could have been trained on, and what
    a score is measured on must not depend on how a filter went.
    """
    assert context.recipe.evaluate is not None
    prompts = list(task.prompts())
    ids = [*context.run.ids("collect"), *context.run.ids("select")]
    for arm in context.recipe.arms:
        ids += context.store.selection(arm.selection).trace_ids if arm.selection else ()
    trained = {prompt.question for prompt, _ in context.pairs(list(dict.fromkeys(ids)))}
    planted = set(contaminated(trained, [prompt.question for prompt in prompts]))
    if not planted:
        return prompts
    exclude = context.recipe.evaluate.exclude_contaminated
    context.warn(
        "evaluate",
        f"{len(planted)} of {len(prompts)} items of '{task.name}' are among the prompts to train on; "
        + ("they are left out" if exclude else "their scores are worthless, and they are counted in"),
        "" if exclude else "set evaluate.exclude_contaminated = true",
    )
    clean = [p for i, p in enumerate(prompts) if i not in planted] if exclude else prompts
    if not clean:
        what = f"every item of '{task.name}' is among the prompts to train on"
        raise LocalDistillError(what, "evaluate on another task")
    return clean


def _measure(
    context: StageContext, member: Member, task: Task, prompts: Sequence[Prompt], entrant: Entrant
) -> tuple[str, Contestant]:
    """One entrant's results on one task, from its artifact or measured now, and the artifact's digest."""
    section = context.recipe.evaluate
    assert section is not None
    spec = {
        "task": member.model_dump(mode="json"),
        "items": [p.id for p in prompts],
        "max_tokens": section.max_tokens,
        "thinks": entrant.thinks,
        "engine": section.engine_options,
    }
    inputs = [entrant.adapter, ModelFolder.open(context.student).digest()]
    digest = context.workspace.artifact_digest("answers", VERSION, spec, inputs)
    label = f"{task.name}: {entrant.name}" + (f", seed {entrant.seed}" if entrant.adapter else "")
    found = context.workspace.artifact("answers", digest)
    if found is None:
        with context.workspace.build_artifact("answers", digest, {"label": label, "inputs": inputs}) as staging:
            results = _answer(context, task, prompts, entrant, label)
            lines = (json.dumps(asdict(result), ensure_ascii=True) + "\n" for result in results)
            atomic_write_text(staging / "items.jsonl", "".join(lines))
    artifact = context.artifact("answers", digest)
    context.announce(artifact, label, reused=found is not None)
    items = tuple(ItemResult(**json.loads(line)) for line in artifact.file("items.jsonl").read_text().splitlines())
    facts = entrant.facts
    return digest, Contestant(
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


def _answer(
    context: StageContext, task: Task, prompts: Sequence[Prompt], entrant: Entrant, label: str
) -> list[ItemResult]:
    section = context.recipe.evaluate
    assert section is not None
    options = {**section.engine_options, "model": str(context.student)}
    if entrant.adapter:
        options["adapter"] = str(context.artifact("adapter", entrant.adapter).path / "adapter")
    sampling = Sampling(max_tokens=section.max_tokens)
    by_id = {content_id("item", i, p.id): p for i, p in enumerate(prompts)}
    requests = [Request(key, p.messages, sampling, 0, entrant.thinks) for key, p in by_id.items()]
    results: dict[str, ItemResult] = {}
    grader: Grader = GRADERS.load(task.grader)(GRADERS.load(task.grader).Options())
    right = 0.0
    try:
        with context.engine(Member(use="transformers", options=options)) as engine:
            model = engine.identity()
            for reply in engine.answer(requests, context.emit, context.cancel):
                prompt = by_id[reply.request_id]
                trace = trace_of(
                    reply, Request(reply.request_id, prompt.messages, sampling), prompt.id, engine.name, model
                )
                grade = grader.grade(prompt, trace)
                right += grade.score
                results[reply.request_id] = ItemResult(
                    prompt_id=prompt.id,
                    score=grade.score,
                    finished=reply.finish_reason != "length",
                    hit_limit=reply.finish_reason == "length",
                    answer_tokens=reply.usage.completion_tokens,
                    extracted=grade.extracted,
                    output=reply.raw,
                    group=str(prompt.metadata.get("steps", "")),
                )
                context.emit(Progressed("evaluate", label, len(results), len(requests), "items", {"right": right}))
    finally:
        grader.close()
    context.cancel.check()
    return [results[key] for key in by_id]


def _best(cards: Iterable[ScoreCard]) -> str:
    """The arm with the highest score on the first task that is no guard, among those that trained to the end."""
    card = next((card for card in cards if not card.is_guard), None)
    rows = [row for row in card.rows if row.name != "base" and not row.stopped_early] if card else []
    return max(rows, key=lambda row: row.score).name if rows else "base"


def _write(context: StageContext, cards: Sequence[ScoreCard], answers: Sequence[str]) -> str:
    data = [card.to_json() for card in cards]
    digest = context.workspace.artifact_digest("scorecard", VERSION, {"cards": data}, answers)
    found = context.workspace.artifact("scorecard", digest)
    if found is None:
        meta = {"label": context.recipe.name, "inputs": list(answers)}
        with context.workspace.build_artifact("scorecard", digest, meta) as staging:
            (staging / "scorecard.json").write_text(json.dumps(data, indent=1))
            (staging / "scorecard.md").write_text("\n\n".join(to_markdown(card) for card in cards))
            (staging / "scorecard.txt").write_text("\n\n".join(to_text(card) for card in cards))
    context.announce(context.artifact("scorecard", digest), context.recipe.name, reused=found is not None)
    return digest
