"""The gradient of one batch, whatever its micro-batches are and whatever computes it: the body forward, the objective
over the head, the body backward. One order of passes for every library; must not know one, nor own an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from localdistill.core.losses import ListedLogprobs, Loss, Pseudo, Slope
from localdistill.trainers._batches import Portion, micro_batches
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from localdistill.core.losses import Floats


@dataclass(frozen=True)
class PositionValues:
    """float32 log-probabilities at N positions, or how strongly each of them is pulled."""

    logprobs: Floats
    """(N, K) of the listed tokens."""
    tail: Floats | None = None
    """(N,) of all others together."""
    mean: Floats | None = None
    """(N,) mean over the vocabulary."""
    first: npt.NDArray[np.bool_] | None = None
    """(N,): the student ranks no token above the row's own; None where nobody counts them."""

    def at(self, part: slice) -> PositionValues:
        """Those of some of the positions."""
        return PositionValues(self.logprobs[part], None if self.tail is None else self.tail[part],
                              None if self.mean is None else self.mean[part])


@dataclass(frozen=True)
class PackedRows:
    """Rows that go through the body one after the other in one sequence, each of which sees only itself."""

    ids: npt.NDArray[np.int32]
    """(T,)"""
    ends: Sequence[int]
    """Where each ends."""
    places: npt.NDArray[np.intp]
    """(N,) of the trained tokens in the sequence."""


Pulling = Callable[[slice, Callable[[], PositionValues]], PositionValues]
"""The pull at some of the positions, which may ask for their values first."""
Held = TypeVar("Held")
"""What a forward pass leaves for the head and for the backward pass."""
Below = TypeVar("Below")
"""The gradient below the head."""


class BatchStepper(ABC, Generic[Held, Below]):
    """Accumulates the gradient of batches. A library says how its passes are computed."""

    scale: float = 1.0
    """What gradients are multiplied by."""

    def __init__(self, rows: Dataset, micro_tokens: int) -> None:
        self.rows, self.micro_tokens = rows, micro_tokens
        self.lengths = rows.lengths
        self._largest = self._longest = 0
        self._ranked_first = 0
        everything = micro_batches(range(len(rows)), self.lengths, micro_tokens)
        self._note(portion.rows for portion in everything)

    # ---- what a library computes

    @abstractmethod
    def forward(self, piece: Sequence[int], learns: bool) -> Held:
        """The body over some rows; what a backward pass needs is kept where the piece `learns`."""

    @abstractmethod
    def values(self, held: Held, pseudo: frozenset[Pseudo]) -> PositionValues:
        """The head over the trained positions of the piece."""

    @abstractmethod
    def pull(self, held: Held, pseudo: frozenset[Pseudo], pulling: Pulling) -> tuple[PositionValues, Below]:
        """The same, with the gradient of the sum of values times pulls."""

    @abstractmethod
    def weigh(self, gradient: Below, by_position: Floats) -> Below:
        """The gradient times (N,): the pull of every position was known up to it."""

    @abstractmethod
    def backward(self, held: Held, gradient: Below) -> None:
        """Add what the gradient below the head comes to for the trained weights."""

    @abstractmethod
    def random_state(self) -> object:
        """The state of the random numbers that dropout draws."""

    @abstractmethod
    def set_random_state(self, state: object) -> None:
        """Draw again from there."""

    # ---- what follows

    def accumulate(self, work: StepWork) -> StepNumbers:
        """Add the gradient of `scale` x the mean loss over the batch to the parameters."""
        units = work.units
        factor, total, metrics = self.scale / units, 0.0, dict[str, tuple[float, float]]()
        self._ranked_first = 0
        for portion in self.portions(work):
            loss = self._split(portion, work, factor) if portion.is_split else self._whole(portion.rows, work, factor)
            total += loss.total
            for name, (value, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = before[0] + value, before[1] + count
        tokens = sum(self.lengths[row] for row in work.batch)
        wanted = [row for row in work.batch if self.rows.signs[row] > 0]
        return StepNumbers(total / units, tokens, self._count(work.batch), metrics, self._ranked_first,
                           self._count(wanted))

    def portions(self, work: StepWork) -> list[Portion]:
        """The batch cut for the memory; the largest piece is remembered, for `halve`."""
        # A loss that counts trained weight takes any rows; all else that can be counted needs whole groups.
        singly = work.objective.grouping == "none" and work.objective.unit == "weight"
        together = None if singly else self.rows.groups
        portions = micro_batches(work.batch, self.lengths, self.micro_tokens, together)
        self._note(piece for portion in portions for piece in portion.pieces)
        return portions

    def logprobs(self, batch: Sequence[int]) -> list[Floats]:
        """float32 (n, K) for each row: log-probabilities of the listed tokens at its trained places."""
        import numpy as np

        found: dict[int, Floats] = {}
        portions = micro_batches(batch, self.lengths, self.micro_tokens)
        self._note(portion.rows for portion in portions)
        for portion in portions:
            values = self.values(self.forward(portion.rows, learns=False), frozenset())
            ends = np.cumsum([len(self.rows.trained(row)) for row in portion.rows])[:-1]
            found |= zip(portion.rows, np.split(values.logprobs, ends), strict=True)
        return [found[row] for row in batch]

    def halve(self) -> bool:
        """Make micro-batches half as large as the largest that was cut last; False when that is a single row."""
        if self._largest <= self._longest:
            return False
        self._largest = self.micro_tokens = max(self._longest, self._largest // 2)
        return True

    def _note(self, pieces: Iterable[Sequence[int]]) -> None:
        sizes = [[self.lengths[row] for row in piece] for piece in pieces]
        self._largest, self._longest = max(map(sum, sizes)), max(map(max, sizes))

    def _whole(self, piece: Sequence[int], work: StepWork, factor: float) -> Loss:
        """Forward, loss and backward of whole groups at once."""
        held = self.forward(piece, learns=True)
        loss, gradient = self._loss(piece, held, work, factor)
        self.backward(held, gradient)
        return loss

    def _loss(self, piece: Sequence[int], held: Held, work: StepWork, factor: float) -> tuple[Loss, Below]:
        """The loss of rows and `factor` times its gradient below the head."""
        objective, pseudo = work.objective, work.objective.pseudo
        told = self._told(piece, work)
        known = objective.known(told)
        if known is not None:
            values, gradient = self._pulled(piece, held, pseudo, _given(_pull(known, factor)))
            loss = objective.loss(_with(told, values))
            if loss.by_row is not None:
                gradient = self.weigh(gradient, loss.by_row[told.row])
            return loss, gradient
        if objective.shape == "position":
            losses: list[Loss] = []

            def local(part: slice, values: Callable[[], PositionValues]) -> PositionValues:
                losses.append(objective.loss(_with(_part(told, part), values())))
                return _pull(losses[-1].slope, factor)

            _, gradient = self._pulled(piece, held, pseudo, local)
            return _sum(losses), gradient
        loss = objective.loss(_with(told, self.values(held, pseudo)))
        return loss, self._pulled(piece, held, pseudo, _given(_pull(loss.slope, factor)))[1]

    def _pulled(self, piece: Sequence[int], held: Held, pseudo: frozenset[Pseudo],
                pulling: Pulling) -> tuple[PositionValues, Below]:
        """The one pull of every trained position in a step, so the place to count what is ranked first: of right
        answers, which alone are to be learned."""
        import numpy as np

        values, gradient = self.pull(held, pseudo, pulling)
        if values.first is not None:
            signs = np.repeat([self.rows.signs[row] for row in piece], [len(self.rows.trained(row)) for row in piece])
            self._ranked_first += int(values.first[signs > 0].sum())
        return values, gradient

    def _split(self, portion: Portion, work: StepWork, factor: float) -> Loss:
        """A group that is too large for one piece: all values first, without gradient, unless the slope is known
        without them; then piece by piece."""
        objective = work.objective
        told = self._told(portion.rows, work)
        if objective.shape == "constant" and (slope := objective.known(told)) is not None:
            return objective.loss(_with(told, self._pull_pieces(portion, work, slope, factor)))
        state = self.random_state()
        found = _joined([self.values(self.forward(piece, learns=False), objective.pseudo)
                         for piece in portion.pieces])
        self.set_random_state(state)  # the same dropout again
        loss = objective.loss(_with(told, found))
        self._pull_pieces(portion, work, loss.slope, factor)
        return loss

    def _pull_pieces(self, portion: Portion, work: StepWork, slope: Slope, factor: float) -> PositionValues:
        """Forward and backward piece by piece, with the slope of all of them known; the values of all of them."""
        whole, start, found = _pull(slope, factor), 0, []
        for piece in portion.pieces:
            held, count = self.forward(piece, learns=True), self._count(piece)
            values, gradient = self._pulled(piece, held, work.objective.pseudo,
                                            _given(whole.at(slice(start, start + count))))
            self.backward(held, gradient)
            found.append(values)
            start += count
        return _joined(found)

    def _told(self, rows: Sequence[int], work: StepWork) -> ListedLogprobs:
        """What the objective is told before a log-probability is known."""
        import numpy as np

        return work.listed(rows, np.zeros(self.rows.listed_tokens(rows).shape, np.float32))

    def _count(self, rows: Sequence[int]) -> int:
        """Trained tokens of some rows."""
        return sum(len(self.rows.trained(row)) for row in rows)

    def packed(self, piece: Sequence[int]) -> PackedRows:
        """Some rows, as they go through the body."""
        import numpy as np

        starts, ends = self.rows.starts, np.cumsum([self.lengths[row] for row in piece])
        places = [at + end - self.lengths[row] for row, end in zip(piece, ends, strict=True)
                  for at in [self.rows.trained(row)]]
        return PackedRows(np.concatenate([self.rows.ids[starts[row]:starts[row + 1]] for row in piece]),
                          ends.tolist(), np.concatenate(places))


def _given(pull: PositionValues) -> Pulling:
    """A pull that does not depend on the values."""
    return lambda part, values: pull.at(part)


def _pull(slope: Slope, factor: float) -> PositionValues:
    """`factor` times a slope."""
    import numpy as np

    by_logprob, by_tail, by_mean = (None if by is None else np.asarray(by * factor, np.float32)
                                    for by in (slope.by_logprob, slope.by_tail, slope.by_mean))
    assert by_logprob is not None
    return PositionValues(by_logprob, by_tail, by_mean)


def _joined(found: Sequence[PositionValues]) -> PositionValues:
    """The values of several pieces, one after the other."""
    import numpy as np

    tail, mean = ([values for values in column if values is not None] for column in (
        [one.tail for one in found], [one.mean for one in found]))
    return PositionValues(np.concatenate([one.logprobs for one in found]), np.concatenate(tail) if tail else None,
                          np.concatenate(mean) if mean else None)


def _with(told: ListedLogprobs, values: PositionValues) -> ListedLogprobs:
    """What an objective is told, with the log-probabilities that were found."""
    return replace(told, logprobs=values.logprobs, tail=values.tail, mean=values.mean)


def _part(told: ListedLogprobs, part: slice) -> ListedLogprobs:
    """Some of the positions."""
    return replace(told, logprobs=told.logprobs[part], weight=told.weight[part], row=told.row[part],
                   stored={name: column[part] for name, column in told.stored.items()})


def _sum(losses: Sequence[Loss]) -> Loss:
    """Losses of parts, added up; their slopes were used and are gone."""
    metrics: Mapping[str, tuple[float, float]] = {
        name: (sum(loss.metrics[name][0] for loss in losses), sum(loss.metrics[name][1] for loss in losses))
        for name in losses[0].metrics}
    return Loss(sum(loss.total for loss in losses), losses[-1].slope, metrics=metrics)
