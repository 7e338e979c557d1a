"""train: one adapter per arm and seed, each in its own artifact. A training that was killed resumes inside the
artifact's staging folder from its newest verified checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localdistill.core.events import Progressed, stamped
from localdistill.modelfiles.folder import ModelFolder
from localdistill.objectives import OBJECTIVES
from localdistill.recipe import Member
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import ArmAdapter, ArmDataset, FormatOutput, TrainOutput, read_output, write_output
from localdistill.trainers import TRAINERS
from localdistill.trainers.base import Trainer, TrainingJob
from localdistill.trainers.report import TrainingResult

VERSION = 1
_RESULT = "result.json"


def run(context: StageContext) -> None:
    """Leave the digest of one adapter per arm and seed."""
    assert context.recipe.train is not None
    arms = read_output(context.run, FormatOutput).arms
    fewest = min(arm.facts.trained_tokens for arm in arms.values())
    adapters: dict[str, tuple[ArmAdapter, ...]] = dict.fromkeys(arms, ())
    for index in range(context.recipe.train.seeds):
        for name, arm in arms.items():
            context.cancel.check()
            adapters[name] += (_train_arm(context, name, arm, context.recipe.seed + index, fewest),)
    write_output(context.run, TrainOutput(adapters))


def _trainer(context: StageContext, trained_tokens: int, fewest: int) -> tuple[Trainer, dict[str, Any]]:
    """The trainer of one arm. With `budget = "tokens"` every arm trains on as many tokens as the shortest one does."""
    section = context.recipe.train
    assert section is not None
    options = dict(section.options)
    if section.budget == "tokens":
        options["epochs"] = options["epochs"] * fewest / trained_tokens
    trainer: Trainer = context.member(TRAINERS, Member(use=section.use, options=options))
    return trainer, options


def _train_arm(context: StageContext, name: str, arm: ArmDataset, seed: int, fewest: int) -> ArmAdapter:
    import pyarrow.parquet as parquet

    section = context.recipe.train
    assert section is not None
    trainer, options = _trainer(context, arm.facts.trained_tokens, fewest)
    dataset = context.artifact("dataset", arm.dataset)
    spec = {
        "trainer": section.use,
        "options": options,
        "objective": section.objective.model_dump(mode="json"),
        "seed": seed,
    }
    digest = context.workspace.artifact_digest(
        "adapter", VERSION, spec, [dataset.digest, ModelFolder.open(context.student).digest()]
    )
    meta = {"seed": seed, "inputs": [dataset.digest], **spec}

    emit = stamped(context.emit, arm=name, seed=seed)
    label = f"{name}, seed {seed}"

    def build(staging: Path) -> None:
        emit(Progressed(f"{label}: loading", 0, 0))
        job = TrainingJob(
            arm=name,
            student=context.student,
            rows=parquet.read_table(dataset.file("rows.parquet")),
            stop_token_id=arm.facts.stop_token_id,
            tag_token_ids=arm.facts.tag_token_ids,
            objective=context.member(OBJECTIVES, section.objective),
            output=staging,
            seed=seed,
        )
        result = trainer.train(job, emit, context.cancel)
        (staging / _RESULT).write_bytes(result.to_bytes())

    artifact = context.make(("adapter", digest, label), meta, build, unstable="adapter/*", emit=emit)
    result = TrainingResult.from_bytes(artifact.file(_RESULT).read_bytes(), f"{_RESULT} of the adapter {digest}")
    return ArmAdapter(digest, seed, result)
