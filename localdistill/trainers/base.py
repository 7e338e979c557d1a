"""The contract of trainers: a dataset and a student in, an adapter folder out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.samples import TrainerSample
from localdistill.objectives.base import Objective
from localdistill.trainers.report import TrainingResult

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TrainingJob:
    """Everything one training needs.

    `rows` is the dataset table, one example per row: `row_id` string, `input_ids` list<int32>, `weights`
    list<float32> (0 = not trained; same length), and where it says so `sign` int8 (+1/-1), `group` string (rows that
    are trained together; empty = none), `epoch` int32 (the only one that sees the row, from 0; null = every),
    `row_weight` float32 (how much the row counts beside others).
    """

    arm: str
    student: Path
    """Folder of the base model: config.json, safetensors, tokenizer, chat template."""
    rows: pa.Table
    stop_token_id: int
    tag_token_ids: tuple[int, ...]
    """Tokens of think tags in the targets: rows of the embeddings that are trained too."""
    objective: Objective
    output: Path
    """Folder to fill: `adapter/` (PEFT layout), `training.json`; `checkpoints/` while it runs."""
    seed: int = 0


class Trainer(Protocol):
    """Trains adapters. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[TrainerSample]:
        """Rows of a dataset, and what training on them comes to."""

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """Fill `job.output`. Resumes from the newest verified checkpoint found there; raises Cancelled after writing
        one when asked to stop."""
