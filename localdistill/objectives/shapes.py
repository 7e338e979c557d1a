"""What objectives of one shape share: with the slope known beforehand, the loss follows from it; with a factor per row,
it follows from one sum per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from localdistill.core.losses import Grouping, ListedLogprobs, Loss, Pseudo, Shape, Slope

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


class Plain:
    """What most objectives are: they take right rows one by one and need nothing beside their own tokens."""

    @property
    def grouping(self) -> Grouping:
        """What every group must hold."""
        return "none"

    @property
    def signs(self) -> frozenset[int]:
        """Right answers only."""
        return frozenset({1})

    @property
    def stored(self) -> tuple[str, ...]:
        """No column."""
        return ()

    @property
    def pseudo(self) -> frozenset[Pseudo]:
        """No pseudo-token."""
        return frozenset()

    def watch(self, metrics: Mapping[str, float]) -> str:
        """Nothing to warn of."""
        return ""

    def state(self) -> Mapping[str, float]:
        """Nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing was kept."""


class ConstantSlope(Plain, ABC):
    """The loss is a weighted sum of log-probabilities."""

    @property
    def shape(self) -> Shape:
        """The slope depends on no log-probability."""
        return "constant"

    @abstractmethod
    def known(self, batch: ListedLogprobs) -> Slope:
        """The whole slope."""

    def metrics(self, batch: ListedLogprobs) -> Mapping[str, tuple[float, float]]:
        """Name -> sum and count."""
        return {}

    def loss(self, batch: ListedLogprobs) -> Loss:
        """Slope times log-probabilities, summed in float64."""
        slope = self.known(batch)
        total = (slope.by_logprob * batch.logprobs).sum(dtype="float64")
        if slope.by_mean is not None and batch.mean is not None:
            total += (slope.by_mean * batch.mean).sum(dtype="float64")
        return Loss(float(total), slope, metrics=self.metrics(batch))


class FactorPerRow(Plain, ABC):
    """The loss depends on one weighted sum of log-probabilities per row."""

    @property
    def shape(self) -> Shape:
        """The slope is a factor per row times known weights."""
        return "row"

    @abstractmethod
    def weights(self, batch: ListedLogprobs) -> Floats:
        """(N,) of the row's own tokens in its sum."""

    @abstractmethod
    def of_sums(self, sums: Floats, batch: ListedLogprobs) -> tuple[float, Floats, Mapping[str, tuple[float, float]]]:
        """The loss of the rows' sums (R,) in float64, its derivative by each sum (R,), and metrics."""

    def known(self, batch: ListedLogprobs) -> Slope:
        """The weights, for every row alike."""
        import numpy as np

        slope = np.zeros((len(batch.row), batch.logprobs.shape[1]))
        slope[:, 0] = self.weights(batch)
        return Slope(slope)

    def loss(self, batch: ListedLogprobs) -> Loss:
        """By way of the sums."""
        known = self.known(batch)
        total, by_row, metrics = self.of_sums(row_sums(batch, known.by_logprob[:, 0], batch.logprobs[:, 0]), batch)
        return Loss(total, Slope(by_row[batch.row, None] * known.by_logprob), by_row, metrics)


def row_sums(batch: ListedLogprobs, weights: Floats, values: Floats | None = None) -> Floats:
    """(R,) in float64: the weights (N,) of each row's positions, times `values` (N,) where they are given."""
    import numpy as np

    terms = weights.astype(np.float64) * (1.0 if values is None else values)
    return np.bincount(batch.row, terms, minlength=len(batch.sign)).astype(np.float64, copy=False)
