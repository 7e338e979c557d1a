"""The contract of objectives: what a trainer minimises, as a function of log-probabilities. Knows no model or torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from localdistill.core.losses import Grouping, ListedLogprobs, Loss, Pseudo, Shape, Slope, Unit
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample


class Objective(Protocol):
    """A loss over whole groups of rows. Built as `Member(options)`. What it is like may follow from its options."""

    Options: ClassVar[type[BaseOptions]]
    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def options(self) -> BaseOptions:
        """What it was built with."""

    @property
    def shape(self) -> Shape:
        """What its slope depends on."""

    @property
    def unit(self) -> Unit:
        """What it is a mean over: the loop divides by the batch's total of it."""

    @property
    def grouping(self) -> Grouping:
        """What every group must hold."""

    @property
    def signs(self) -> frozenset[int]:
        """Of the rows that it takes."""

    @property
    def stored(self) -> tuple[str, ...]:
        """Columns of log-probabilities that it needs; "reference" is the policy before step 1."""

    @property
    def pseudo(self) -> frozenset[Pseudo]:
        """Pseudo-tokens that it needs."""

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """Log-probabilities and their loss."""

    def known(self, batch: ListedLogprobs) -> Slope | None:
        """What can be said of the slope before a log-probability is known (those of `batch` must not be read): all of
        it for shape "constant", all but a factor per row for "row", None for the others."""

    def loss(self, batch: ListedLogprobs) -> Loss:
        """The loss of whole groups in any portion; of any positions for shape "position"."""

    def watch(self, metrics: Mapping[str, float]) -> str:
        """Told the metrics of each step, divided; what must be warned of, said once, else empty."""

    def state(self) -> Mapping[str, float]:
        """What a checkpoint must keep."""

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` said."""
