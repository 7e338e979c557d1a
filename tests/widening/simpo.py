"""Pairs by their mean log-probabilities and a margin, without a reference: an example of an objective on pairs.

Source: https://arxiv.org/abs/2405.14734."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from localdistill.core.losses import Grouping, ListedLogprobs
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample
from localdistill.objectives.collapse import CollapseWatch, likelihoods
from localdistill.objectives.dpo import sides
from localdistill.objectives.pair_losses import log_sigmoid, sigmoid
from localdistill.objectives.shapes import FactorPerRow, row_sums

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


class SimpoObjective(CollapseWatch, FactorPerRow):
    """The mean of a right answer's tokens must lie above that of a wrong one's by a margin."""

    class Options(BaseOptions):
        """How a pair is judged."""

        beta: float = Field(2.0, gt=0)
        """How sharply."""
        margin: float = Field(1.0, ge=0)
        """Times beta, in nats per token: how far apart is far enough."""

    name: ClassVar[str] = "simpo"
    version: ClassVar[int] = 1

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """A pair by hand."""
        pair = ObjectiveSample([[-0.5], [-1.5], [-3.0]], [1.0] * 3, [0, 0, 1], [1, -1], [0, 0])
        return (
            replace(pair, loss=math.log1p(math.exp(-3.0))),
            replace(pair, loss=math.log1p(math.exp(-2.0)), options={"beta": 1.0, "margin": 0.0}),
            replace(pair, groups=[0, 1], refused="holds 1 right and 0 wrong"),
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or self.Options()

    @property
    def grouping(self) -> Grouping:
        """Pairs."""
        return "pair"

    def weights(self, batch: ListedLogprobs) -> Floats:
        """Shares of the row."""
        return batch.weight / row_sums(batch, batch.weight)[batch.row]

    def of_sums(self, sums: Floats, batch: ListedLogprobs) -> tuple[float, Floats, Mapping[str, tuple[float, float]]]:
        """The loss of each pair, counted as its rows are."""
        import numpy as np

        right, wrong = sides(batch)
        beta, weight = self.options.beta, batch.row_weight[right].astype(np.float64)
        apart = beta * (sums[right] - sums[wrong] - self.options.margin / beta)
        by_row = np.zeros(len(sums))
        by_row[right], by_row[wrong] = -beta * weight * sigmoid(-apart), beta * weight * sigmoid(-apart)
        told = {"preferred": apart > 0, **likelihoods(batch)}
        return (float(-(weight * log_sigmoid(apart)).sum()), by_row,
                {name: (float(values.sum()), float(len(right))) for name, values in told.items()})
