"""REDI: learn from right answers and, more weakly, away from wrong ones, without a reference model. With `alpha` 0 it
is supervised fine-tuning that counts every answer alike, however long.

Source: https://arxiv.org/abs/2505.24850, its second stage: the mean over pairs of -log p(right) / |right| +
alpha log p(wrong) / |wrong|. A group with several answers of one side takes their mean; one without a side takes the
other alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.losses import ListedLogprobs, Slope
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample
from localdistill.objectives.collapse import CollapseWatch, likelihoods
from localdistill.objectives.shapes import ConstantSlope, row_sums


class RediObjective(CollapseWatch, ConstantSlope):
    """Mean log-probability per token: up for right answers, down for wrong ones."""

    class Options(BaseOptions):
        """How much wrong answers count."""

        alpha: float = Field(0.8, ge=0, le=1)
        """Weight of the wrong answers. 1 pushes as hard as it pulls, which makes training collapse; 0 leaves them
        out."""

    name: ClassVar[str] = "redi"
    version: ClassVar[int] = 1

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """Log-probabilities and their loss."""
        logprobs, weights, rows = [[-1.0], [-3.0], [-2.0], [-5.0]], [1.0, 1.0, 1.0, 0.5], [0, 0, 1, 2]
        return (
            ObjectiveSample(logprobs[:3], weights[:3], rows[:3], [1, -1], [0, 0], loss=2.0 - 0.8 * 2.0),
            ObjectiveSample(logprobs, weights, rows, [1, -1, -1], [0, 0, 0], loss=2.0 - 0.5 * (2.0 + 5.0) / 2,
                            options={"alpha": 0.5}),
            ObjectiveSample(logprobs, weights, rows, [1, 1, -1], row_weights=[1.0, 0.5, 1.0], loss=2.0 + 1.0,
                            options={"alpha": 0.0}),
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or self.Options()

    def known(self, batch: ListedLogprobs) -> Slope:
        """Of a mean over the tokens of a row, over the rows of its side, and over groups."""
        import numpy as np

        is_right = batch.sign > 0
        beside = np.where(is_right, np.bincount(batch.group, is_right)[batch.group],
                          np.bincount(batch.group, ~is_right)[batch.group])
        by_row = (np.where(is_right, -1.0, self.options.alpha) * batch.row_weight
                  / (beside * row_sums(batch, batch.weight)))
        slope = np.zeros(batch.logprobs.shape)
        slope[:, 0] = by_row[batch.row] * batch.weight
        return Slope(slope)

    def metrics(self, batch: ListedLogprobs) -> Mapping[str, tuple[float, float]]:
        """How likely the tokens of each side are."""
        return {name: (float(side.sum()), float(len(side))) for name, side in likelihoods(batch).items()}
