"""Whether a score may be memory: what is gained on a benchmark against what is gained on twins of its items, which
nobody can have seen. A teacher that knows the items hands them on through other questions ("data laundering", arXiv
2412.15255), and no look at the training rows finds that; twins do.

A gain that is larger on the known items than on their twins is what a leak looks like. The difference of two gains is
free of how hard either side is, as long as neither score is near its end; what the base remembers itself is in both
scores of its side, and is not found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError
from localdistill.scorecard.card import ContestantResult
from localdistill.scorecard.paper import p_text, signed
from localdistill.scorecard.statistics import (
    Interval,
    SeedDifference,
    SeedVariance,
    difference_over_seeds,
    holm,
    pooled_seed_variance,
)

ALPHA = 0.05


@dataclass(frozen=True)
class LeakCheck:
    """One arm's gain on a benchmark beside its gain on the twins, both over the base."""

    arm: str
    gain: float
    twin_gain: float
    interval: Interval
    """95 %, of the first minus the second."""
    p_adjusted: float
    """Two-sided, after Holm over the arms."""
    detectable: float
    """Smallest true excess that is found with 80 % probability."""

    @property
    def excess(self) -> float:
        """How much more was gained on the known items."""
        return self.gain - self.twin_gain

    @property
    def is_suspect(self) -> bool:
        """More was gained where the items are known than chance explains."""
        return self.excess > 0 and self.p_adjusted < ALPHA

    def told(self, twins: str) -> str:
        """In a sentence."""
        gains = f"{self.arm} gains {signed(self.gain)} points here and {signed(self.twin_gain)} on the twins ({twins})"
        how = (f"{signed(self.excess)}, {signed(self.interval.low)} to {signed(self.interval.high)}, "
               f"p {p_text(self.p_adjusted)}")
        if self.is_suspect:
            return f"LEAK SUSPECTED: {gains}: {how}. What it knows of these very items may be part of its score"
        return f"{gains}: {how}. No sign of a leak; {100 * self.detectable:.1f} points could be seen"


def check_leaks(task: Sequence[ContestantResult], twins: Sequence[ContestantResult], base: str) -> list[LeakCheck]:
    """Every arm of `task` that answered the twins too, against `base`, which answered both. Items and seeds both count
    as chance; seeds as if they were drawn anew for the twins, which is never too little.

    Raises LocalDistillError when the base did not answer both."""
    here, there = _by_name(task), _by_name(twins)
    if base not in here or base not in there:
        raise LocalDistillError(f"'{base}' did not answer the benchmark and its twins", "evaluate both in one recipe")
    arms = [name for name in here if name != base and name in there]
    seeds = [pooled_seed_variance([[math.fsum(row) / len(row) for row in side[name]] for name in arms])
             for side in (here, there)]
    found = {name: (_gain(here, name, base, seeds[0]), _gain(there, name, base, seeds[1])) for name in arms}
    excess = {name: _minus(*gains).compared() for name, gains in found.items()}
    adjusted = holm({name: one.p_value for name, one in excess.items()})
    return [LeakCheck(name, one.difference, other.difference, excess[name].interval, adjusted[name],
                      excess[name].detectable) for name, (one, other) in found.items()]


def _by_name(results: Sequence[ContestantResult]) -> Mapping[str, list[list[float]]]:
    """Name -> the scores of each seed."""
    found: dict[str, list[list[float]]] = {}
    for one in results:
        found.setdefault(one.name, []).append([item.score for item in one.items])
    return found


def _gain(scores: Mapping[str, list[list[float]]], arm: str, base: str, seeds: SeedVariance) -> SeedDifference:
    return difference_over_seeds(scores[arm], scores[base], seeds, second_is_trained=False)


def _minus(one: SeedDifference, other: SeedDifference) -> SeedDifference:
    """The difference of two that are independent, with Welch's degrees of freedom."""
    first, second = one.error**2, other.error**2
    parts = first**2 / one.degrees + second**2 / other.degrees
    return SeedDifference(one.difference - other.difference, math.sqrt(first + second),
                          (first + second) ** 2 / parts if parts else math.inf)


def told_leaks(checks: Sequence[LeakCheck], twins: str) -> Iterator[str]:
    """What the card says of them, suspects first."""
    yield from (f"{check.told(twins)}." for check in sorted(checks, key=lambda check: not check.is_suspect))
