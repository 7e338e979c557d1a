"""The smallest backend there is, in NumPy: it guesses a token from the set of those before it, by one matrix. The fake
beside the real ones, and the proof that a backend needs nothing of torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localdistill.core.events import Cancel, Emit
from localdistill.core.records import Reply, Request
from localdistill.modelfiles.folder import ModelFolder
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import HeldBase

Array = npt.NDArray[np.float32]


class ToyBackend:
    """Plain gradient descent on one matrix (V, V)."""

    held = HeldBase("none", "float32")

    def __init__(self, room: int = 10**6) -> None:
        self.room = room
        """So many rows fit the memory at once."""
        self.at_once = 10**6
        self.applied = 0

    def load(self, job: TrainingJob, rows: Dataset, emit: Emit) -> str:
        size = ModelFolder.open(job.student).vocab_size
        self.rows = rows
        self.weights: Array = np.random.default_rng(job.seed).normal(0, 0.01, (size, size)).astype(np.float32)
        self.gradient = np.zeros_like(self.weights)
        return f"{self.weights.size} trained"

    def probe(self, work: StepWork) -> None:
        self.accumulate(replace(work, batch=list(work.batch)[:16]))
        self.discard()

    def logprobs(self, batch: Sequence[int]) -> list[Array]:
        return [self._row(row)[1] for row in batch]

    def accumulate(self, work: StepWork) -> StepNumbers:
        total, trained = 0.0, 0
        metrics: dict[str, tuple[float, float]] = {}
        groups = list(dict.fromkeys(work.rows.groups[row] for row in work.batch))
        for start in range(0, len(groups), self.at_once):
            part = [row for row in work.batch if work.rows.groups[row] in groups[start:start + self.at_once]]
            if len(part) > self.room:
                raise MemoryError("the toy is full")
            features, logprobs, everything = (np.concatenate(arrays) for arrays in zip(*map(self._row, part)))
            loss = work.objective.loss(work.listed(part, logprobs))
            pull = loss.slope.by_logprob.astype(np.float32) / work.units
            by_logits = -pull * np.exp(everything)
            own = np.concatenate([self._own(row) for row in part])
            by_logits[np.arange(len(own)), own] += pull[:, 0]
            self.gradient += by_logits.T @ features
            total, trained = total + loss.total, trained + len(own)
            for name, (value, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = before[0] + value, before[1] + count
        return StepNumbers(total / work.units, sum(work.rows.length(row) for row in work.batch), trained, metrics)

    def apply(self, rate: float, max_norm: float) -> float:
        norm = float(np.linalg.norm(self.gradient))
        if np.isfinite(norm):
            self.weights -= np.float32(rate) * self.gradient
            self.applied += 1
        self.discard()
        return norm

    def discard(self) -> None:
        self.gradient[:] = 0

    def relieve(self) -> str:
        if self.at_once == 1:
            return ""
        self.at_once = max(1, min(self.at_once, 16) // 2)
        return f"{self.at_once} groups at once"

    def save(self, folder: Path) -> None:
        np.savez(folder / "toy.npz", weights=self.weights, applied=self.applied)

    def restore(self, folder: Path) -> None:
        with np.load(folder / "toy.npz") as kept:
            self.weights, self.applied = kept["weights"], int(kept["applied"])

    def peak_bytes(self) -> int:
        return self.weights.nbytes

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        """Answers how many steps it has taken."""
        for request in requests:
            if cancel.is_set():
                return
            yield Reply(request.id, "complete", answer=str(self.applied))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "toy.npy", self.weights)

    def _own(self, row: int) -> npt.NDArray[np.int32]:
        return self.rows.ids[self.rows.starts[row] + self.rows.trained(row)]

    def _row(self, row: int) -> tuple[Array, Array, Array]:
        """Features (n, V), log-probabilities (n, 1) of the row's own tokens, and those of all tokens (n, V)."""
        ids, places = self.rows.ids[self.rows.starts[row]:self.rows.starts[row + 1]], self.rows.trained(row)
        features = np.zeros((len(places), len(self.weights)), np.float32)
        for number, place in enumerate(places):
            np.add.at(features[number], ids[:place], 1 / place)
        logits = features @ self.weights.T
        everything = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return features, everything[np.arange(len(places)), ids[places]][:, None], everything
