"""Supervised fine-tuning: weighted cross entropy on the trained tokens of the target. Must not normalise; the trainer
divides by the weight of the whole batch, so that micro-batches cannot change the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample

if TYPE_CHECKING:
    import torch


class SftObjective:
    """Cross entropy of the next token, each position times its weight."""

    class Options(BaseOptions):
        """Options of supervised fine-tuning."""

        label_smoothing: float = Field(0.0, ge=0, lt=1)
        """Share of the target probability spread over the whole vocabulary, 0 to below 1; 0 is plain cross entropy."""

    name = "sft"

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """Trained positions and their loss."""
        logits, loss = [[0.0, 0.0], [math.log(3.0), 0.0]], math.log(2.0) + 0.5 * math.log(4.0 / 3.0)
        return (
            ObjectiveSample(logits, [0, 0], [1.0, 0.5], [1, 1], loss),
            ObjectiveSample(logits, [0, 0], [1.0, 0.5], [1, -1], refused="cannot use negative rows"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor,
             roles: torch.Tensor) -> torch.Tensor:
        """Sum over N of weight x cross entropy: logits (N, V), targets (N,), weights (N,), roles (N,); a scalar.

        Rows with role -1 are refused (ValueError): learning from negatives needs another objective.
        """
        from torch.nn.functional import cross_entropy

        if bool((roles < 0).any()):
            raise ValueError("supervised fine-tuning cannot use negative rows")
        losses = cross_entropy(logits.float(), targets, reduction="none",
                               label_smoothing=self.options.label_smoothing)
        return (losses * weights).sum()
