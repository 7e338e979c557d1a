"""How the base is run beside what was trained on it: held alike, so that only the training tells them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from localdistill.trainers.base import Trainer
from localdistill.trainers.job import Served


def served_base(trainer: Trainer, student: Path, trained: Path | None, held: Path | None = None) -> Served:
    """How the base in the folder `student` is run, held as it was while what lies in the folder `trained` was fitted to
    it; where that is None, as the trainer says. held: see `Trainer.served`."""
    served = trainer.served(student, None, held)
    return served if trained is None else replace(served, options=trainer.served(student, trained, held).options)
