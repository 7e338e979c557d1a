"""Supervised fine-tuning: weighted cross entropy on the trained tokens of the target. Must not normalise; the trainer
divides by the weight of the whole batch, so that micro-batches cannot change the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from localdistill.core.losses import ListedLogprobs, Pseudo, Slope, Unit
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample
from localdistill.objectives.shapes import ConstantSlope


class SftObjective(ConstantSlope):
    """Cross entropy of the next token, each position times its weight."""

    class Options(BaseOptions):
        """Options of supervised fine-tuning."""

        label_smoothing: float = Field(0.0, ge=0, lt=1)
        """Share of the target probability spread over the whole vocabulary, 0 to below 1; 0 is plain cross entropy."""

    name: ClassVar[str] = "sft"
    version: ClassVar[int] = 1

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """Log-probabilities and their loss."""
        half, quarter = math.log(0.5), math.log(0.25)
        rows = ObjectiveSample([[half], [quarter], [half]], [1.0, 0.5, 1.0], [0, 0, 1], [1, 1])
        return (
            replace(rows, loss=math.log(2.0) * (1 + 1 + 1)),
            replace(rows, loss=math.log(2.0) * (2 + 0.5), row_weights=[1.0, 0.5]),
            replace(rows, loss=math.log(2.0) * (0.9 * 3 + 0.1 * 2 * 2.5), mean=[2 * half] * 3,
                     options={"label_smoothing": 0.1}),
            replace(rows, signs=[1, -1], refused="takes no wrong answers"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    @property
    def unit(self) -> Unit:
        """A mean over trained weight."""
        return "weight"

    @property
    def pseudo(self) -> frozenset[Pseudo]:
        """The mean over the vocabulary, where labels are smoothed."""
        return frozenset({"mean"}) if self.options.label_smoothing else frozenset()

    def known(self, batch: ListedLogprobs) -> Slope:
        """Minus the weight of each position, a share of it on the mean over the vocabulary."""
        import numpy as np

        weight = batch.weight * batch.row_weight[batch.row]
        share = self.options.label_smoothing
        slope = np.zeros(batch.logprobs.shape, weight.dtype)
        slope[:, 0] = (share - 1) * weight
        return Slope(slope, by_mean=-share * weight if share else None)
