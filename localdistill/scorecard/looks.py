"""Sequential looks at a race: arms are trained seed by seed, and one whose verdict is clear early needs no more seeds.

Looks begin after three seeds, when the variance between seeds can be estimated and a verdict may speak of a format at
all. Each spends a part of the error (the function of Lan and DeMets 1983 that behaves like O'Brien and Fleming's), the
parts add up to the whole, and Holm's method runs over the arms that are still open: by the union over looks and
closed testing over arms the chance of any false verdict stays below the stated error, however the looks depend on each
other. That costs a little power at the last look, which `benchmarks/false_verdicts.py` measures.

Pure: numbers in, decisions out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from localdistill.scorecard.card import SEEDS_FOR_FORMATS
from localdistill.scorecard.statistics import (
    SeedVariance,
    difference_over_seeds,
    holm,
    normal_quantile,
    pooled_seed_variance,
    t_cdf,
)

Arm = TypeVar("Arm", bound=Hashable)
Scores = Sequence[Sequence[float]]
"""[seed][item], each 0..1."""


@dataclass(frozen=True)
class Look:
    """What the looks so far say of one arm against the base."""

    p_adjusted: float
    """Of the look that decided, else of the newest: after Holm over the open arms, scaled so that the stated error is
    what it is compared with."""
    sign: int
    """1: better; -1: worse; 0: open."""
    seeds: int
    """After how many it was decided, or last looked at; 0 before the first look."""


def look_levels(planned: int, alpha: float) -> dict[int, float]:
    """Seeds after which there is a look -> the part of `alpha` that it spends. The last one comes after `planned`, be
    they fewer than three."""
    points = [*range(SEEDS_FOR_FORMATS, planned + 1)] or [planned]
    spent, levels = 0.0, dict[int, float]()
    for seeds in points:
        reached = 2 * (1 - t_cdf(normal_quantile(1 - alpha / 2) / math.sqrt(seeds / planned), math.inf))
        levels[seeds], spent = reached - spent, reached
    return levels


def look_at(arms: Mapping[Arm, Scores], base: Scores, planned: int, alpha: float) -> dict[Arm, Look]:
    """What the looks that were due so far say of each arm. Arms may have different numbers of seeds: one that was
    decided is not trained on."""
    found = {arm: Look(1.0, 0, 0) for arm in arms}
    for seeds, level in look_levels(planned, alpha).items():
        still = [arm for arm, look in found.items() if look.sign == 0]
        if not still or seeds > max(len(arms[arm]) for arm in still):
            break
        spread = _spread([scores[:seeds] for scores in arms.values()])
        compared = {arm: difference_over_seeds(arms[arm][:seeds], base, spread, second_is_trained=False)
                    for arm in still if len(arms[arm]) >= seeds}
        for arm, p in holm({arm: one.p_value for arm, one in compared.items()}).items():
            scaled = min(1.0, p * alpha / level)
            sign = 0 if scaled >= alpha else 1 if compared[arm].difference > 0 else -1
            found[arm] = Look(scaled, sign, seeds)
    return found


def _spread(arms: Sequence[Scores]) -> SeedVariance:
    return pooled_seed_variance([[math.fsum(seed) / len(seed) for seed in scores] for scores in arms])
