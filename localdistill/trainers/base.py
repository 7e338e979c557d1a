"""The contract of trainers: a dataset and a student in, an adapter folder out, and how that is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from localdistill.core.events import Cancel, Emit
from localdistill.core.samples import TrainerSample
from localdistill.modelfiles.hardware import Hardware, MemoryPlan
from localdistill.modelfiles.shape import StudentShape
from localdistill.modelfiles.trained import TrainedRow
from localdistill.trainers._options import LoopOptions
from localdistill.trainers.job import Served, TrainingJob
from localdistill.trainers.report import TrainingResult

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


class Trainer(Protocol):
    """Trains adapters: the loop (`loop.py`) over a backend (`backend.py`). Built as `Member(options)`."""

    Options: ClassVar[type[LoopOptions]]
    name: ClassVar[str]
    engine: ClassVar[str]
    """The engine that runs its students: whose options an evaluation may set."""

    @property
    def options(self) -> LoopOptions:
        """What it was built with."""

    @classmethod
    def samples(cls) -> Sequence[TrainerSample]:
        """Rows of a dataset, and what training on them comes to."""

    def check(self, student: Path, max_tokens: int, hardware: Hardware) -> None:
        """Raise ModelFileError or UsageError when the files of `student` say that it cannot be trained on rows of up to
        `max_tokens` with these options on `hardware`. Loads no library."""

    def estimate(self, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
        """What a training on rows of up to `max_tokens` takes at least, and where it would run. Loads no library."""

    def held_base(self, student: Path) -> Mapping[str, object]:
        """What decides how the base in the folder `student` is held, where that is made once; `held` names it."""

    def hold_base(self, student: Path, folder: Path, emit: Emit, cancel: Cancel) -> None:
        """Make the base ready in the empty folder `folder`, where `held_base` says that there is something to make."""

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """Fill `job.output`. Resumes from the newest verified checkpoint found there; raises Cancelled after writing
        one when asked to stop."""

    def served(self, student: Path, output: Path | None, held: Path | None = None) -> Served:
        """How the base in the folder `student` is run as it is (`output` None), or with what a training left in the
        folder `output`. held: the folder that `hold_base` filled, where somebody kept it."""

    def merge(self, student: Path, output: Path | None, merged: Path, emit: Emit, cancel: Cancel) -> None:
        """Write into the folder `merged` the base in `student`, with what a training left in `output` (None: nothing)
        merged into the weights that it was trained on where they can be written, else into those that are stored."""

    def logprobs(self, student: Path, output: Path, rows: Sequence[TrainedRow], cancel: Cancel) -> list[Floats]:
        """Log-probabilities of the trained tokens of every row, by what a training left in `output`, over weights held
        as it held them; few of the weights are in memory at once."""
