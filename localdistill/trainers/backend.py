"""The seam between the training loop and the library that computes its steps: plain values and arrays of NumPy, so that
the loop knows no library, and a library knows neither schedule nor checkpoints nor events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from localdistill.core.events import Cancel, Emit
from localdistill.core.records import Reply, Request
from localdistill.objectives.base import Objective
from localdistill.trainers._columns import StoredColumn
from localdistill.trainers._rows import Dataset
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import HeldBase

if TYPE_CHECKING:
    from localdistill.core.losses import Floats, ListedLogprobs


@dataclass(frozen=True)
class StepNumbers:
    """What one step saw."""

    loss: float
    """Mean over the objective's units."""
    tokens: int
    trained_tokens: int
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Name -> sum and count, as objectives give them."""
    ranked_first: int = 0
    """Trained tokens of right answers that the student ranks first, before the step."""
    to_learn: int = 0
    """All of those tokens; 0 where nobody counts."""


@dataclass(frozen=True)
class StepWork:
    """What one step is to learn."""

    rows: Dataset
    batch: Sequence[int]
    """Row numbers, whole groups."""
    objective: Objective
    stored: Mapping[str, StoredColumn] = field(default_factory=dict)
    progress: float = 0.0
    """Of the training, 0 to 1."""

    @property
    def units(self) -> float:
        """What the sum of the losses is divided by."""
        return self.rows.units(self.batch, self.objective.unit)

    def listed(self, rows: Sequence[int], logprobs: Floats, tail: Floats | None = None,
               mean: Floats | None = None) -> ListedLogprobs:
        """What the objective is told of some of the rows: (N, K) in the order of `rows`, then of their tokens."""
        stored = {name: column.of(rows) for name, column in self.stored.items()}
        return self.rows.listed(rows, logprobs, tail=tail, mean=mean, stored=stored, progress=self.progress)


class Backend(Protocol):
    """One training in one library, from loaded weights to written ones. All calls come from one thread. Between them it
    holds the trained weights, the optimizer, the gradient gathered so far, and the state of its random numbers.

    Whatever does not fit the memory raises MemoryError and may be tried again after `discard` and `relieve`; a repeated
    call computes the same as if it had been the first, dropout included."""

    @property
    def held(self) -> HeldBase:
        """How the base's weights are held."""

    def load(self, job: TrainingJob, rows: Dataset, emit: Emit) -> str:
        """Make ready for step 1, from the job's seed and `start_adapter`; what is trained, and where, in words."""

    def probe(self, work: StepWork) -> None:
        """Compute the heaviest micro-batch of `work.batch`, which holds all rows, so that memory runs out now or never.
        Nothing of it remains."""

    def logprobs(self, batch: Sequence[int]) -> list[Floats]:
        """float32 (n, K) for each row: log-probabilities of its listed tokens, without dropout or gradient."""

    def accumulate(self, work: StepWork) -> StepNumbers:
        """Add the gradient of the batch's mean loss to what was gathered."""

    def apply(self, rate: float, max_norm: float) -> float:
        """One step of the optimizer along the gradient, shortened to `max_norm` (0: never); then forget the gradient.
        Its length before; where that is not finite the weights stay as they are."""

    def discard(self) -> None:
        """Forget the gradient."""

    def relieve(self) -> str:
        """Give way by one rung after memory ran out, without changing what a step comes to; what was done, in words
        (empty: nothing is left)."""

    def save(self, folder: Path) -> None:
        """Write into `folder` everything that the next step depends on, and the rungs that gave way."""

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote: the next step comes out bit for bit as if nothing had been in between."""

    def peak_bytes(self) -> int:
        """The most memory used so far."""

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        """What the student answers as it is now. Changes nothing that training depends on; stops early when asked to
        cancel."""

    def write(self, folder: Path) -> None:
        """Write the trained weights into `folder`, an adapter in PEFT's layout."""
