"""What is exported, as exporters are told of it before the training and after, and how their files are measured for
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from localdistill.core.options import Options
from localdistill.modelfiles.trained import TrainedModel
from localdistill.scorecard import FileChoice, ScoreCard


class Measure(Protocol):
    """Runs exported files on the recipe's benchmarks."""

    @property
    def choice(self) -> FileChoice | None:
        """Which of the files that were measured last should be taken; None before that."""

    def __call__(self, files: Sequence[Path]) -> Sequence[ScoreCard]:
        """A card per benchmark, each file against the model as trained."""


@dataclass(frozen=True)
class ExportPlan:
    """What is known of an export before the training."""

    student: Path
    """Folder of the model that is to be trained."""
    thinks: bool | None
    """As in `ExportJob`."""
    used_tokens: int
    """The longest text that it is to be trained on; 0 when that is not known."""
    trained_rows: int = 0
    """So many tokens have rows in the embeddings, and in the head, that are trained beside the linear layers."""
    adapter: str = "lora"
    """What kind of adapter it is to be trained to, as the option of trainers calls it."""
    before: Mapping[str, Options] | None = None
    """The exporters that work before this one, by name, with their options; None when that is not known."""


@dataclass(frozen=True)
class ExportJob:
    """What is exported. Nothing written may hold an absolute path, a user, a host or a private address."""

    merged: Path
    """Folder of the merged model: config.json, safetensors, tokenizer, chat template."""
    output: Path
    """Folder to fill; every file appears under its final name only when it is complete and verified."""
    name: str
    """Base name of the files."""
    thinks: bool | None
    """Whether it was trained to think before it answers; None for what was trained to do as it is told, and for the
    base alone: the switch of its chat template stays open."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the model card: base model, arm, format, data, scores, licences."""
    measure: Measure | None = None
    """How files are measured; None when there is nothing to measure them on."""
    trained: TrainedModel | None = None
    """What the merged model was made of; None when it is the base alone."""
    adapter: Path | None = None
    """Folder of the adapter that was merged; None when the model is the base alone."""

    @property
    def used_tokens(self) -> int:
        """The longest text that the student was trained on, from the card; 0 when it does not say."""
        return self._stated("num_ctx")

    @property
    def evaluated_tokens(self) -> int:
        """The longest prompt and reply that an evaluation may come to, from the card; 0 when it does not say."""
        return self._stated("evaluated_tokens")

    def _stated(self, key: str) -> int:
        stated = self.card.get(key)
        return stated if isinstance(stated, int) and stated > 0 else 0
