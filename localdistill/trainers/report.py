"""What a training tells of itself: its result, and the report kept beside the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.stored import Stored

REPORT_FILE = "training.json"


@dataclass(frozen=True)
class TrainingResult(Stored):
    """What happened."""

    steps: int
    epochs: float
    trained_tokens: int
    final_loss: float
    elapsed_s: float
    peak_memory_bytes: int
    stopped_early: str = ""
    """Why, when it did not reach its last step; such an arm is reported, never ranked."""


@dataclass(frozen=True)
class HeldBase:
    """How the base's weights were held while an adapter was fitted to them."""

    quantization: str
    dtype: str


@dataclass(frozen=True)
class TrainingReport(Stored):
    """Everything about one training, kept beside its adapter as `training.json`."""

    trainer: str
    arm: str
    seed: int
    student: str
    """Digest of the base model."""
    objective: str
    options: Mapping[str, Any]
    result: TrainingResult
    base: HeldBase | None = None
    """None in reports of versions that did not say it."""
