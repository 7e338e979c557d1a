"""Guesses a token from the set of those before it, by one matrix, in NumPy: an example of a trainer with a backend of
its own, the smallest that there is, and the fake beside the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Emit
from localdistill.core.records import Reply, Request
from localdistill.core.samples import TrainerSample
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware, MemoryPlan
from localdistill.modelfiles.shape import StudentShape
from localdistill.modelfiles.trained import TrainedRow
from localdistill.trainers._options import LoopOptions
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.job import Served, TrainingJob
from localdistill.trainers.report import HeldBase, TrainingResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]


class BagOfTokensTrainer:
    """Trains the matrix. What comes of it answers nothing."""

    class Options(LoopOptions):
        """Options of the loop alone."""

    name = "bag_of_tokens"
    engine = "transformers"

    @classmethod
    def samples(cls) -> Sequence[TrainerSample]:
        """Rows of a dataset, and what training on them comes to."""
        ids, weights = [[9, 10, 11, -1], [9, 12, 13, -1]], [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.5, 1.0]]
        return (TrainerSample(ids, weights, 1, options={"max_steps": 1}),
                TrainerSample(ids, [weights[0], [0.0] * 4], refused="no token is trained"))

    def __init__(self, options: LoopOptions | None = None) -> None:
        self.options = options or self.Options()

    def check(self, student: Path, max_tokens: int, hardware: Hardware) -> None:
        """Any student that has a vocabulary."""
        ModelFolder.open(student)

    def estimate(self, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
        """The matrix and its gradient."""
        return MemoryPlan({"matrix": 8 * student.vocab_size**2}, hardware.place("cpu"), "a bag of tokens")

    def held_base(self, student: Path) -> Mapping[str, object]:
        """No base is held at all."""
        return {}

    def hold_base(self, student: Path, folder: Path, emit: Emit, cancel: Cancel) -> None:
        """There is nothing to make."""

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """The loop over the matrix."""
        from localdistill.trainers.loop import run_training

        return run_training(self.name, self.options, job, MatrixBackend(), emit, cancel)

    def served(self, student: Path, output: Path | None, held: Path | None = None) -> Served:
        """The base alone."""
        return Served(self.engine, {}, {"model": str(student)})

    def merge(self, student: Path, output: Path | None, merged: Path, emit: Emit, cancel: Cancel) -> None:
        """There is nothing to merge it into."""
        raise UsageError("a bag of tokens is no part of its student", "train with another trainer")

    def logprobs(self, student: Path, output: Path, rows: Sequence[TrainedRow], cancel: Cancel) -> list[Array]:
        """Nobody compares it with anything."""
        raise UsageError("a bag of tokens is no part of its student", "train with another trainer")


class MatrixBackend:
    """Plain gradient descent on one matrix (V, V)."""

    held = HeldBase("none", "float32")

    def __init__(self, room: int = 10**6) -> None:
        self.room = room
        """So many rows fit the memory at once."""
        self.at_once = 10**6
        self.applied = 0

    def load(self, job: TrainingJob, rows: Dataset, emit: Emit) -> str:
        """See `Backend`."""
        import numpy as np

        size = ModelFolder.open(job.student).vocab_size
        self.rows = rows
        self.weights: Array = np.random.default_rng(job.seed).normal(0, 0.01, (size, size)).astype(np.float32)
        self.gradient = np.zeros_like(self.weights)
        return f"{self.weights.size} trained"

    def probe(self, work: StepWork) -> None:
        """See `Backend`."""
        self.accumulate(replace(work, batch=list(work.batch)[:16]))
        self.discard()

    def logprobs(self, batch: Sequence[int]) -> list[Array]:
        """See `Backend`."""
        return [self._row(row)[1] for row in batch]

    def accumulate(self, work: StepWork) -> StepNumbers:
        """See `Backend`."""
        import numpy as np

        total, trained, ranked_first, to_learn = 0.0, 0, 0, 0
        metrics: dict[str, tuple[float, float]] = {}
        groups = list(dict.fromkeys(work.rows.groups[row] for row in work.batch))
        for start in range(0, len(groups), self.at_once):
            part = [row for row in work.batch if work.rows.groups[row] in groups[start:start + self.at_once]]
            if len(part) > self.room:
                raise MemoryError("the matrix is full")
            features, logprobs, everything = (np.concatenate(arrays) for arrays in zip(*map(self._row, part)))
            loss = work.objective.loss(work.listed(part, logprobs))
            pull = loss.slope.by_logprob.astype(np.float32) / work.units
            by_logits = -pull * np.exp(everything)
            own = np.concatenate([self._own(row) for row in part])
            by_logits[np.arange(len(own)), own] += pull[:, 0]
            self.gradient += by_logits.T @ features
            right = np.repeat([work.rows.signs[row] > 0 for row in part], [len(self._own(row)) for row in part])
            ranked_first += int((right & (logprobs[:, 0] >= everything.max(axis=1))).sum())
            to_learn += int(right.sum())
            total, trained = total + loss.total, trained + len(own)
            for name, (value, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = before[0] + value, before[1] + count
        tokens = sum(work.rows.length(row) for row in work.batch)
        return StepNumbers(total / work.units, tokens, trained, metrics, ranked_first, to_learn)

    def apply(self, rate: float, max_norm: float) -> float:
        """See `Backend`."""
        import numpy as np

        norm = float(np.linalg.norm(self.gradient))
        if np.isfinite(norm):
            self.weights -= np.float32(rate) * self.gradient
            self.applied += 1
        self.discard()
        return norm

    def discard(self) -> None:
        """See `Backend`."""
        self.gradient[:] = 0

    def relieve(self) -> str:
        """See `Backend`."""
        if self.at_once == 1:
            return ""
        self.at_once = max(1, min(self.at_once, 16) // 2)
        return f"{self.at_once} groups at once"

    def save(self, folder: Path) -> None:
        """See `Backend`."""
        import numpy as np

        np.savez(folder / "matrix.npz", weights=self.weights, applied=self.applied)

    def restore(self, folder: Path) -> None:
        """See `Backend`."""
        import numpy as np

        with np.load(folder / "matrix.npz") as kept:
            self.weights, self.applied = kept["weights"], int(kept["applied"])

    def peak_bytes(self) -> int:
        """See `Backend`."""
        return self.weights.nbytes

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        """Answers how many steps it has taken."""
        for request in requests:
            if cancel.is_set():
                return
            yield Reply(request.id, "complete", answer=str(self.applied))

    def write(self, folder: Path) -> None:
        """See `Backend`."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "matrix.npy", self.weights)

    def _own(self, row: int) -> npt.NDArray[np.int32]:
        return self.rows.ids[self.rows.starts[row] + self.rows.trained(row)]

    def _row(self, row: int) -> tuple[Array, Array, Array]:
        """Features (n, V), log-probabilities (n, 1) of the row's own tokens, and those of all tokens (n, V)."""
        import numpy as np

        ids, places = self.rows.ids[self.rows.starts[row]:self.rows.starts[row + 1]], self.rows.trained(row)
        features = np.zeros((len(places), len(self.weights)), np.float32)
        for number, place in enumerate(places):
            np.add.at(features[number], ids[:place], 1 / place)
        logits = features @ self.weights.T
        everything = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return features, everything[np.arange(len(places)), ids[places]][:, None], everything
