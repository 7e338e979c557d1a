"""train: one adapter per arm and seed, each in its own artifact; an arm that starts from another follows it. A training
that was killed resumes inside the artifact's staging folder from its newest verified checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localdistill.core.events import Progressed, stamped
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe.sections import ArmSection
from localdistill.stages.context import StageContext
from localdistill.stages.development import Development, development
from localdistill.stages.learning import arm_objective, training_job
from localdistill.stages.outputs import (
    ArmAdapter,
    ArmDataset,
    EvaluateOutput,
    FormatOutput,
    TrainOutput,
    TuneOutput,
    has_output,
    read_output,
    write_output,
)
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import RESULT_FILE, TrainingResult
from localdistill.workspace.folder import Artifact

VERSION = 1


@dataclass(frozen=True)
class ArmTraining:
    """One training of one arm."""

    section: ArmSection
    arm: ArmDataset
    seed: int
    start: ArmAdapter | None
    """What the arm that it starts from came to with the same seed; None starts from the base."""
    epochs: float | None
    """None leaves it to the trainer's option."""
    dev: Development | None = None
    """What it is measured on while it goes on."""


def run(context: StageContext) -> None:
    """Leave the digest of one adapter per arm and seed, as far as this leg of a race goes and an arm is not settled."""
    assert context.recipe.train is not None
    if context.recipe.train.is_tuned:
        context.note(read_output(context.run, TuneOutput).result.line)
    arms = read_output(context.run, FormatOutput).arms
    sections = starts_first(context.recipe.arms)
    fewest = min(arm.facts.trained_tokens for arm in arms.values())
    adapters: dict[str, tuple[ArmAdapter, ...]] = dict.fromkeys(arms, ())
    settled = settled_arms(context)
    with development(context) as dev:
        for index in range(context.seeds or context.recipe.train.seeds):
            for section in sections:
                if index >= settled.get(section.name, index + 1):
                    continue
                context.cancel.check()
                start = adapters[section.start][index] if section.start else None
                arm = arms[section.name]
                training = ArmTraining(section, arm, context.recipe.seed + index, start,
                                       _epochs(context, section, arm.facts.trained_tokens, fewest), dev)
                adapters[section.name] += (_train_arm(context, training),)
    write_output(context.run, TrainOutput(adapters))


def settled_arms(context: StageContext) -> Mapping[str, int]:
    """Arm -> after how many seeds it needed no more, as the evaluation before this leg said."""
    assert context.recipe.train is not None
    if not context.recipe.train.looks or not has_output(context.run, EvaluateOutput.stage):
        return {}
    return read_output(context.run, EvaluateOutput).settled


def starts_first(arms: Sequence[ArmSection]) -> list[ArmSection]:
    """The arms, each after the one that it starts from, else in their order. A recipe has no circle of them."""
    order: list[ArmSection] = []
    waiting = list(arms)
    while waiting:
        done = {arm.name for arm in order}
        ready = next(arm for arm in waiting if not arm.start or arm.start in done)
        waiting.remove(ready)
        order.append(ready)
    return order


def _epochs(context: StageContext, section: ArmSection, trained_tokens: int, fewest: int) -> float | None:
    """How often an arm sees its rows, where that is not the trainer's option: what it says itself, or, with
    `budget = "tokens"`, what makes it train on as many tokens as the shortest one does."""
    train = context.recipe.train
    assert train is not None
    if section.epochs is None and train.budget == "tokens":
        return float(context.trainer.options.epochs * fewest / trained_tokens)
    return section.epochs


def _spec(context: StageContext, training: ArmTraining) -> dict[str, Any]:
    """What decides the adapter, beside the digests of what it is made from: with the rate that was found, where one was
    to be."""
    section = context.recipe.train
    assert section is not None
    options = {**section.options, **context.chosen}
    if training.epochs is not None:
        options["epochs"] = training.epochs
    objective = arm_objective(section, training.section)
    spec = {"trainer": section.use, "options": options, "objective": objective.model_dump(mode="json"),
            "seed": training.seed}
    return {**spec, "dev": training.dev.spec()} if training.dev else spec


def _train_arm(context: StageContext, training: ArmTraining) -> ArmAdapter:
    name, seed = training.section.name, training.seed
    spec = _spec(context, training)
    dataset = context.artifact("dataset", training.arm.dataset)
    start = context.artifact("adapter", training.start.adapter) if training.start else None
    made_from = [dataset.digest, *(one.digest for one in (start, context.held_base) if one)]
    digest = context.workspace.artifact_digest(
        "adapter", VERSION, spec, [dataset.digest, ModelFolder.open(context.student).digest(), *made_from[1:]])
    emit = stamped(context.emit, arm=name, seed=seed)
    label = f"{name}, seed {seed}"
    if training.start is not None and training.start.result.stopped_early:
        context.warn(f"{label}: starts from '{training.section.start}', which was stopped: "
                     f"{training.start.result.stopped_early}")

    def build(staging: Path) -> None:
        emit(Progressed(f"{label}: loading", 0, 0))
        result = context.trainer.train(_job(context, training, dataset, start, staging), emit, context.cancel)
        (staging / RESULT_FILE).write_bytes(result.to_bytes())

    meta: Mapping[str, Any] = {"seed": seed, "inputs": made_from, **spec}
    artifact = context.make(("adapter", digest, label), meta, build, unstable="adapter/*", emit=emit)
    where = f"{RESULT_FILE} of the adapter {digest}"
    result = TrainingResult.from_bytes(artifact.file(RESULT_FILE).read_bytes(), where)
    return ArmAdapter(digest, seed, result)


def _job(context: StageContext, training: ArmTraining, dataset: Artifact, start: Artifact | None,
         output: Path) -> TrainingJob:
    import pyarrow.parquet as parquet

    section, arm, dev = training.section, training.arm, training.dev
    job = training_job(context, section, arm, parquet.read_table(dataset.file("rows.parquet")), output)
    return replace(job, seed=training.seed, epochs=training.epochs,
                   start_adapter=start.path / "adapter" if start else None,
                   dev_items=dev.items(section.name, arm.facts.thinks) if dev else None)
