"""Which rows and which step size every step of a training has: a pure function of options, seed and rows, so that a
resumed training goes on as if it had never stopped. Must not hold state beyond what it remembers of one epoch."""

from __future__ import annotations

import math

from localdistill.trainers._batches import epoch_batches
from localdistill.trainers._options import LoopOptions
from localdistill.trainers._rows import Dataset


class Schedule:
    """The steps of one training."""

    def __init__(self, options: LoopOptions, rows: Dataset, seed: int,
                 rates: tuple[float, float] | None = None) -> None:
        """rates: of a range test, see `TrainingJob`."""
        self._options, self._rows, self._seed = options, rows, seed
        self._rates, self._peak = rates, rates[1] if rates else options.peak_rate
        self._lengths = rows.lengths
        self._remembered: tuple[int, list[list[int]]] = (-1, [])
        self._epoch_steps = [len(self._epoch(epoch)) for epoch in range(math.ceil(options.epochs))]
        self.steps = self._count()
        """How many there are."""

    def batch(self, step: int) -> list[int]:
        """Row numbers of the 0-based `step`, whole groups."""
        epoch = self.epoch(step)
        return self._epoch(epoch)[step - sum(self._epoch_steps[:epoch])]

    def epoch(self, step: int) -> int:
        """The 0-based epoch of the 0-based `step`."""
        for epoch, steps in enumerate(self._epoch_steps):
            if step < steps:
                return epoch
            step -= steps
        raise IndexError(f"the training ends before step {step + 1}")

    def learning_rate(self, step: int) -> float:
        """The step size of the 0-based `step`."""
        if self._rates is not None:
            first, last = self._rates
            return float(first * (last / first) ** (step / max(1, self.steps - 1)))
        peak = self._peak
        warmup = math.ceil(self._options.warmup_share * self.steps)
        if step < warmup:
            return peak * (step + 1) / warmup
        share = (step - warmup) / max(1, self.steps - warmup)
        fall = {"cosine": 0.5 * (1 + math.cos(math.pi * share)), "linear": 1 - share, "constant": 1.0}
        return peak * fall[self._options.schedule]

    def epochs(self, steps: int) -> float:
        """How many epochs so many steps are."""
        return steps / sum(self._epoch_steps) * len(self._epoch_steps)

    def _epoch(self, epoch: int) -> list[list[int]]:
        if self._remembered[0] != epoch:
            rows, options = self._rows, self._options
            self._remembered = epoch, epoch_batches(self._lengths, options.batch_rows, options.batch_tokens,
                                                    self._seed, epoch, rows.groups, rows.epochs)
        return self._remembered[1]

    def _count(self) -> int:
        unseen = len(self._epoch_steps) - self._options.epochs
        total = sum(self._epoch_steps) - math.floor(unseen * self._epoch_steps[-1])
        return max(1, min(total, self._options.max_steps or total))
