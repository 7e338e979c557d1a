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
class Recovery:
    """The one return of a training that had gone astray to an earlier state."""

    why: str
    at_step: int
    back_to: int
    """Steps that led to the state it went back to."""
    rate_factor: float
    """What the learning rate was multiplied by from there on."""

    def told(self) -> str:
        """In words."""
        return f"{self.why}; it went back to step {self.back_to} and on with {self.rate_factor:g} of the learning rate"


SATURATED = 0.99
"""Share of tokens ranked first from which on more epochs of the same rows bring little (arXiv 2602.11149: gains end
where the rows are known by heart)."""


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
    recovery: Recovery | None = None
    """None where nothing went astray, or nothing could be gone back to."""
    token_accuracy: tuple[float, ...] = ()
    """Share, 0..1, of the trained tokens of right answers that the student ranked first, before each step, by epoch;
    empty where nobody counted."""

    @property
    def came_out(self) -> str:
        """Which weights came out and why, in words; empty for the last ones of a training that nothing happened to."""
        return "; ".join(part.told() for part in (self.dev, self.recovery) if part)

    @property
    def learned(self) -> str:
        """How far the rows are known by heart, in words; empty where nobody counted."""
        if not self.token_accuracy:
            return ""
        first, last = self.token_accuracy[0], self.token_accuracy[-1]
        epochs = f" ({100 * first:.1f} % in the first)" if len(self.token_accuracy) > 1 else ""
        more = ("saturated: more epochs of these rows bring little" if last >= SATURATED else
                "not saturated: more epochs may teach more")
        return f"{100 * last:.1f} % of the trained tokens ranked first in the last epoch{epochs}, {more}"


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
