"""train: one adapter per arm and seed, each in its own artifact. A training that was killed resumes inside the
artifact's staging folder from its newest verified checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from localdistill.core.events import Progressed, stamped
from localdistill.modelfiles.folder import ModelFolder
from localdistill.objectives import OBJECTIVES
from localdistill.recipe import Member
from localdistill.stages.context import StageContext
from localdistill.trainers import TRAINERS
from localdistill.trainers.base import Trainer, TrainingJob

VERSION = 1


def run(context: StageContext) -> None:
    """Leave the digest of one adapter per arm and seed."""
    assert context.recipe.train is not None
    arms: Mapping[str, Any] = context.run.output("format")["arms"]
    fewest = min(facts["trained_tokens"] for facts in arms.values())
    adapters: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for index in range(context.recipe.train.seeds):
        for name, facts in arms.items():
            context.cancel.check()
            adapters[name].append(_train_arm(context, name, facts, context.recipe.seed + index, fewest))
    context.run.write_output("train", {"adapters": adapters})


def _trainer(context: StageContext, facts: Mapping[str, Any], fewest: int) -> tuple[Trainer, dict[str, Any]]:
    """The trainer of one arm. With `budget = "tokens"` every arm trains on as many tokens as the shortest one does."""
    section = context.recipe.train
    assert section is not None
    options = dict(section.options)
    if section.budget == "tokens":
        options["epochs"] = options["epochs"] * fewest / facts["trained_tokens"]
    trainer: Trainer = context.member(TRAINERS, Member(use=section.use, options=options))
    return trainer, options


def _train_arm(context: StageContext, name: str, facts: Mapping[str, Any], seed: int, fewest: int) -> dict[str, Any]:
    import pyarrow.parquet as parquet

    section = context.recipe.train
    assert section is not None
    trainer, options = _trainer(context, facts, fewest)
    dataset = context.artifact("dataset", facts["dataset"])
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
            stop_token_id=facts["stop_token_id"],
            tag_token_ids=tuple(facts["tag_token_ids"]),
            objective=context.member(OBJECTIVES, section.objective),
            output=staging,
            seed=seed,
        )
        result = trainer.train(job, emit, context.cancel)
        (staging / "result.json").write_text(json.dumps(asdict(result), indent=1))

    artifact = context.make(("adapter", digest, label), meta, build, unstable="adapter/*", emit=emit)
    return {"adapter": digest, "seed": seed, **json.loads(artifact.file("result.json").read_text())}
