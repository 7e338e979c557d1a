"""The contract of objectives: what a trainer minimises, given the logits or losses of trained positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.samples import ObjectiveSample

if TYPE_CHECKING:
    import torch


class Objective(Protocol):
    """A loss over one micro-batch. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """Trained positions and their loss."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor,
             roles: torch.Tensor) -> torch.Tensor:
        """Sum over trained positions N of the weighted loss (the trainer divides by the batch's total weight).

        logits (N, V) of trained positions only, targets (N,) token ids, weights (N,) above 0,
        roles (N,) +1 positive, -1 negative.
        """
