"""The contract of exporters: a merged model folder becomes files for another program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from localdistill.events import Cancel, Emit
from localdistill.options import Options
from localdistill.scorecard import ScoreCard

Measure = Callable[[Sequence[Path]], Sequence[ScoreCard]]
"""Runs exported files on the recipe's benchmarks: a card per benchmark, each file against the model as trained."""


@dataclass(frozen=True)
class ExportJob:
    """What is exported. Nothing written may hold an absolute path, a user, a host or a private address."""

    merged: Path
    """Folder of the merged model: config.json, safetensors, tokenizer, chat template."""
    output: Path
    """Folder to fill; every file appears under its final name only when it is complete and verified."""
    name: str
    """Base name of the files."""
    thinks: bool
    card: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the model card: base model, arm, format, data, scores, licences."""
    measure: Measure | None = None
    """How files are measured; None when there is nothing to measure them on."""


class Exporter(Protocol):
    """Writes exports. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the files and return their paths."""
