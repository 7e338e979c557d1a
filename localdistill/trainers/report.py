"""What a training tells of itself: its result, and the report kept beside the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.stored import Stored

REPORT_FILE, RESULT_FILE = "training.json", "result.json"


@dataclass(frozen=True)
class DevOutcome:
    """What development items came to in one training, and what they decided."""

    items: int
    points: tuple[tuple[int, float], ...]
    """Step and score, 0..1, of every measurement."""
    last_step: int
    """How far it was trained."""
    kept_step: int
    """Whose weights came out."""
    patience: int
    keep: str
    """`last` or `best`."""
    ended: bool
    """It ended before its last step because there was no better score for long enough."""
    elapsed_s: float
    """Of all measurements; part of the time of the training."""

    def told(self) -> str:
        """Which weights came out and why, in words."""
        scores = dict(self.points)
        score = f", development score {100 * scores[self.kept_step]:.1f} %" if self.kept_step in scores else ""
        of = f" of {self.last_step}" if self.kept_step != self.last_step else ""
        why = f", ended after {self.patience} measurements without a better one" if self.ended else ""
        best = f", the best of {len(self.points)} measurements" if self.keep == "best" else ""
        return f"step {self.kept_step}{of}{score}{best}{why}"


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
    """Why, when it did not reach its last step; such an arm is reported, never ranked. The rule by which development
    items end every arm is no reason."""
    dev: DevOutcome | None = None
    """What development items decided; steps, tokens and loss are then those of the weights that came out."""


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
