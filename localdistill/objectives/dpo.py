"""Direct preference optimisation: a right answer must rise above a wrong one of the same prompt, as far as both have
moved from the policy before step 1. With `ld_alpha` below 1, what a longer answer has beyond the length of the shorter
one counts less (LD-DPO), so that length is not learned for right.

Sources: https://arxiv.org/abs/2305.18290; LD-DPO, https://arxiv.org/abs/2409.06411; other losses of a pair in
`pair_losses`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from localdistill.core.losses import Grouping, ListedLogprobs
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ObjectiveSample
from localdistill.objectives.collapse import CollapseWatch, likelihoods
from localdistill.objectives.pair_losses import PAIR_LOSSES, SMOOTHED, PairLossName, Pairs
from localdistill.objectives.shapes import FactorPerRow, row_sums

if TYPE_CHECKING:
    from localdistill.core.losses import Floats, Ints


class DpoObjective(CollapseWatch, FactorPerRow):
    """A loss of pairs of a right and a wrong answer, against a reference."""

    class Options(BaseOptions):
        """How a pair is judged."""

        kind: PairLossName = "sigmoid"
        """The loss of a pair; `sigmoid` is plain DPO."""
        beta: float = Field(0.1, gt=0)
        """How strongly the policy is held to the reference; smaller lets it move further."""
        label_smoothing: float = Field(0.0, ge=0, lt=0.5)
        """Share of pairs that are taken to be the wrong way round, for `sigmoid`, `sigmoid_norm`, `robust` and
        `exo_pair`; 0 trusts every pair."""
        ld_alpha: float = Field(1.0, ge=0, le=1)
        """How much each token beyond the length of the pair's shorter answer counts; 1 is DPO without regard to
        length."""

        @model_validator(mode="after")
        def _smooths_what_can_be(self) -> DpoObjective.Options:
            if self.label_smoothing and self.kind not in SMOOTHED:
                raise ValueError(f"label_smoothing means nothing to the loss {self.kind}; leave it 0")
            if self.kind == "exo_pair" and not self.label_smoothing:
                raise ValueError("the loss exo_pair needs label_smoothing above 0, for example 0.001")
            return self

    name: ClassVar[str] = "dpo"
    version: ClassVar[int] = 1

    @classmethod
    def samples(cls) -> Sequence[ObjectiveSample]:
        """A pair of 8 and 10 tokens in every loss, and one by hand."""
        pair = ObjectiveSample(
            [[-10 / 8]] * 8 + [[-12 / 10]] * 10, [1.0] * 18, [0] * 8 + [1] * 10, [1, -1], [0, 0],
            stored={"reference": [[-11 / 8]] * 8 + [[-11 / 10]] * 10})
        plain = {"sigmoid": 0.5981388693815918, "hinge": 0.8, "ipo": 22.800625, "nca_pair": 1.3387933201471418,
                 "bco_pair": 1.2887933201471418, "sppo_hard": 32.0, "apo_zero": 0.95004162504212,
                 "apo_down": 0.9751451901664621, "sigmoid_norm": 0.6819604604751515}
        smoothed = {"robust": 0.5731388693815918, "exo_pair": 0.40630425072495624, "sigmoid": 0.6181388693815918}
        uneven = ObjectiveSample([[-3.0], [-1.0], [-2.0]], [1.0] * 3, [0, 1, 1], [-1, 1], [0, 0], [0.5, 0.5],
                                 stored={"reference": [[-2.5], [-1.5], [-6.0]]})
        return (
            *[replace(pair, loss=loss, options={"kind": kind}) for kind, loss in plain.items()],
            *[replace(pair, loss=loss, options={"kind": kind, "label_smoothing": 0.1})
              for kind, loss in smoothed.items()],
            # The right answer moved by 0.5 + 0.25 x 4, the wrong one by -0.5.
            replace(uneven, loss=0.5 * math.log1p(math.exp(-2.0)), options={"beta": 1.0, "ld_alpha": 0.25}),
            replace(pair, groups=[0, 1], refused="holds 1 right and 0 wrong"),
            replace(pair, signs=[-1, -1], refused="holds 0 right and 2 wrong"),
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or self.Options()

    @property
    def grouping(self) -> Grouping:
        """Pairs."""
        return "pair"

    @property
    def stored(self) -> tuple[str, ...]:
        """The policy before step 1."""
        return ("reference",)

    def weights(self, batch: ListedLogprobs) -> Floats:
        """Those of the rows, less beyond the length of the shorter answer."""
        import numpy as np

        if self.options.ld_alpha == 1:
            return batch.weight
        right, wrong = sides(batch)
        tokens = np.bincount(batch.row, minlength=len(batch.sign))
        shorter = np.minimum(tokens[right], tokens[wrong])[batch.group]
        place = np.arange(len(batch.row)) - (np.cumsum(tokens) - tokens)[batch.row]
        return np.where(place < shorter[batch.row], batch.weight, self.options.ld_alpha * batch.weight)

    def of_sums(self, sums: Floats, batch: ListedLogprobs) -> tuple[float, Floats, Mapping[str, tuple[float, float]]]:
        """The loss of each pair, counted as its rows are."""
        import numpy as np

        right, wrong = sides(batch)
        moved = sums - row_sums(batch, self.weights(batch), batch.stored["reference"][:, 0])
        tokens = row_sums(batch, batch.weight)
        pairs = Pairs(moved[right], moved[wrong], tokens[right], tokens[wrong], self.options.beta,
                      self.options.label_smoothing)
        losses, by_right, by_wrong = PAIR_LOSSES[self.options.kind](pairs)
        weight, by_row = batch.row_weight[right].astype(np.float64), np.zeros(len(sums))
        by_row[right], by_row[wrong] = weight * by_right, weight * by_wrong
        margins = pairs.beta * (pairs.right - pairs.wrong)
        told = {"preferred": margins > 0, "margin": margins, **likelihoods(batch)}
        return (float((weight * losses).sum()), by_row,
                {name: (float(values.sum()), float(len(right))) for name, values in told.items()})


def sides(batch: ListedLogprobs) -> tuple[Ints, Ints]:
    """(P,) each: the right and the wrong row of every pair, in the order of the groups."""
    import numpy as np

    right, wrong = np.flatnonzero(batch.sign > 0), np.flatnonzero(batch.sign < 0)
    return right[np.argsort(batch.group[right])], wrong[np.argsort(batch.group[wrong])]
