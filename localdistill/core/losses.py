"""What passes between an objective and a backend: log-probabilities of listed tokens one way, a loss and its slope the
other. Arrays of NumPy, which is loaded by whoever makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

Shape = Literal["constant", "row", "position", "batch"]
"""What the slope of a loss depends on: on no log-probability, on them by a factor per row, on those of the same
position, or on all."""
Unit = Literal["weight", "row", "group"]
"""What a loss is a mean over: trained weight times row weight, row weights, or those of groups."""
Grouping = Literal["none", "pair", "group"]
"""What every group holds: anything, one right and one wrong row, or at least one of each."""
Pseudo = Literal["tail", "mean"]
"""All tokens that are not listed, and the mean over the vocabulary."""

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]
    Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class ListedLogprobs:
    """N trained positions, by row and then as in the text, of R whole rows in whole groups."""

    logprobs: Floats
    """(N, K): of K listed tokens: the row's own first, then those that the dataset lists beside it."""
    weight: Floats
    """(N,): of the token in its row, above 0."""
    row: Ints
    """(N,): 0..R-1, ascending."""
    row_weight: Floats
    """(R,): how much the row counts beside others; the same for all rows of a group."""
    sign: Ints
    """(R,): +1 right, -1 wrong."""
    group: Ints
    """(R,): 0..G-1; a row that belongs to no group has one of its own."""
    tail: Floats | None = None
    """(N,): of all tokens that are not listed together, clamped."""
    mean: Floats | None = None
    """(N,): mean of the log-probabilities of the whole vocabulary."""
    stored: Mapping[str, Floats] = field(default_factory=dict)
    """Column -> (N, K): log-probabilities of the same tokens by somebody else."""
    progress: float = 0.0
    """Of the training, 0 to 1."""


@dataclass(frozen=True)
class Slope:
    """Derivative of a loss by each log-probability that it was given, each taken as a variable of its own."""

    by_logprob: Floats
    """(N, K)"""
    by_tail: Floats | None = None
    """(N,)"""
    by_mean: Floats | None = None
    """(N,)"""


@dataclass(frozen=True)
class Loss:
    """The loss of some whole groups, as sums: micro-batches are added up."""

    total: float
    """Sum over the objective's units, not divided by them."""
    slope: Slope
    """Of `total`."""
    by_row: Floats | None = None
    """(R,), of an objective whose shape is "row": the slope is this factor times what was `known`."""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Name -> sum, and the count that it is a sum over: the quotient is shown."""
