"""Intervals, paired tests and detectable differences, on the standard library alone. Pure functions of numbers: nothing
here knows models or tasks, and every method names its source."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist, fmean, variance
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

_NORMAL = NormalDist()
_BISECTIONS = 60
_SEARCH_STEPS = 18
_TAIL_SDS = 6.0
_MOST_PARTS, _GRID = 64, 4000


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def normal_quantile(probability: float) -> float:
    """The z with P(Z <= z) = `probability`."""
    return _NORMAL.inv_cdf(probability)


def t_cdf(value: float, degrees: float) -> float:
    """P(T <= value) for Student's t; `degrees` may be fractional or infinite."""
    if math.isinf(degrees):
        return _NORMAL.cdf(value)
    tail = 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + value * value))
    return 1 - tail if value > 0 else tail


def t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T <= t) = `probability`, by bisection on `t_cdf`."""
    if math.isinf(degrees):
        return normal_quantile(probability)
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) for no trials."""
    if count == 0:
        return Interval(0.0, 1.0)
    z, share = normal_quantile(0.5 + confidence / 2), successes / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return Interval(0.0 if successes == 0 else centre - reach, 1.0 if successes == count else centre + reach)


def paired_difference_interval(both: int, won: int, lost: int, neither: int, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two paired proportions, (won - lost) / n.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: two Wilson intervals joined with a continuity-corrected phi.
    """
    count = both + won + lost + neither
    if count == 0:
        return Interval(-1.0, 1.0)
    first, second = (both + won) / count, (both + lost) / count
    one, two = wilson_interval(both + won, count, confidence), wilson_interval(both + lost, count, confidence)
    cross = float(both * neither - won * lost)
    if cross > 0:
        cross = max(cross - count / 2, 0.0)
    margins = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    phi = cross / math.sqrt(margins) if margins else 0.0
    down, up = first - one.low, two.high - second
    low = math.sqrt(max(0.0, down * down - 2 * phi * down * up + up * up))
    up, down = one.high - first, second - two.low
    high = math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))
    return Interval(max(-1.0, first - second - low), min(1.0, first - second + high))


def mean_difference_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval for the mean of paired differences that are not just right or wrong."""
    if len(differences) < 2:
        return Interval(-1.0, 1.0)
    reach = t_quantile(0.5 + confidence / 2, len(differences) - 1) * math.sqrt(variance(differences) / len(differences))
    return Interval(fmean(differences) - reach, fmean(differences) + reach)


def mcnemar_exact(won: int, lost: int) -> float:
    """Two-sided p value of the exact McNemar test: is a discordant item equally likely to go either way?"""
    discordant = won + lost
    tail = sum(math.comb(discordant, wins) for wins in range(min(won, lost) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**discordant)))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p value of the paired permutation test on the sum of `differences`: were each as likely to have the
    other sign (Fisher 1935), how often would the sum be at least as large?

    The distribution is summed up over a grid of sums. It is exact where differences are multiples of one step, as means
    of replies are; else they are rounded to a grid of about 4,000 sums.
    """
    sizes = [abs(value) for value in differences if value != 0]
    if not sizes:
        return 1.0
    step = _step_of(sizes)
    steps = [round(size / step) for size in sizes]
    reached = abs(sum(round(value / step) for value in differences))
    sums = [1.0]
    for size in filter(None, steps):
        flipped = [0.0] * size
        sums = [0.5 * (one + other) for one, other in zip(sums + flipped, flipped + sums)]
    total, least = sum(steps), 0.0
    # Place k holds the chance that a sum of k steps was turned positive: the sum is then 2k - total.
    for place, chance in enumerate(sums):
        if abs(2 * place - total) >= reached:
            least += chance
    return min(1.0, least)


def _step_of(sizes: Sequence[float]) -> float:
    """What all `sizes` are multiples of, where that is one of 1, 1/2 ... 1/64; else a fine enough one."""
    for parts in range(1, _MOST_PARTS + 1):
        if all(abs(size * parts - round(size * parts)) < 1e-9 for size in sizes):
            return 1 / parts
    return sum(sizes) / _GRID


def detectable_mean_difference(differences: Sequence[float], power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true mean difference that a t test on as many pairs with this spread finds with probability `power`;
    1.0 when there are too few."""
    if len(differences) < 2:
        return 1.0
    degrees = len(differences) - 1
    error = math.sqrt(variance(differences) / len(differences))
    return min(1.0, (t_quantile(1 - alpha / 2, degrees) + t_quantile(power, degrees)) * error)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's adjusted p values (Holm 1979), in the order given."""
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for rank, (key, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, value * (len(p_values) - rank)))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}


@lru_cache(maxsize=256)
def detectable_difference(count: int, discordant_share: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true difference of two paired proportions that the exact McNemar test on `count` items finds with
    probability `power`, when `discordant_share` of the items go differently.

    A difference above that share raises the share to itself. 1.0 when no difference can be found.
    """
    if count == 0 or _power(count, 1.0, 1.0, alpha) < power:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        share = min(1.0, max(discordant_share, middle))
        enough = _power(count, share, (1 + middle / share) / 2, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(count: int, share: float, win_rate: float, alpha: float) -> float:
    """Probability that the exact test is significant in favour of the side that is truly better."""
    spread = _TAIL_SDS * math.sqrt(count * share * (1 - share)) + 1
    first, last = max(0, int(count * share - spread)), min(count, int(count * share + spread) + 1)
    total = 0.0
    for discordant in range(first, last + 1):
        needed = _critical_wins(discordant, alpha)
        if needed <= discordant:
            found = sum(_binomial(discordant, wins, win_rate) for wins in range(needed, discordant + 1))
            total += _binomial(count, discordant, share) * found
    return total


@lru_cache(maxsize=20_000)
def _critical_wins(discordant: int, alpha: float) -> int:
    """Fewest wins of `discordant` with a two-sided p value of at most `alpha`; `discordant + 1` when there is none."""
    limit = alpha / 2 * 2**discordant if discordant < 1000 else math.inf
    if math.isinf(limit):
        return math.ceil(discordant / 2 + normal_quantile(1 - alpha / 2) * math.sqrt(discordant) / 2 + 0.5)
    tail = 0
    for losses in range(discordant + 1):
        tail += math.comb(discordant, losses)
        if tail > limit:
            return discordant - losses + 1
    return 0


def _binomial(count: int, wins: int, rate: float) -> float:
    if rate <= 0 or rate >= 1:
        return float(wins == (count if rate >= 1 else 0))
    logarithm = math.lgamma(count + 1) - math.lgamma(wins + 1) - math.lgamma(count - wins + 1)
    return math.exp(logarithm + wins * math.log(rate) + (count - wins) * math.log1p(-rate))


@dataclass(frozen=True)
class SeedVariance:
    """Variance of an arm's mean score from one training seed to the next, pooled over arms."""

    value: float
    degrees: int
    """Degrees of freedom: seeds minus one, summed over arms; 0 when no arm has two seeds."""


def pooled_seed_variance(means: Sequence[Sequence[float]]) -> SeedVariance:
    """Pool the variance of the per-seed mean scores over arms (one inner sequence per arm)."""
    degrees = sum(len(arm) - 1 for arm in means if len(arm) > 1)
    if degrees == 0:
        return SeedVariance(0.0, 0)
    return SeedVariance(sum(variance(arm) * (len(arm) - 1) for arm in means if len(arm) > 1) / degrees, degrees)


@dataclass(frozen=True)
class SeedComparison:
    """A difference of two arms with items and seeds both counted as chance."""

    difference: float
    interval: Interval
    p_value: float
    detectable: float
    """Smallest true difference found with 80 % probability at 5 %."""


@dataclass(frozen=True)
class SeedDifference:
    """A difference of two arms and its standard error, with items and seeds both counted as chance."""

    difference: float
    error: float
    degrees: float
    """Of freedom, by Satterthwaite 1946."""

    @property
    def p_value(self) -> float:
        """Two-sided, by Student's t."""
        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return 2 * (1 - t_cdf(abs(self.difference) / self.error, self.degrees))

    def compared(self, confidence: float = 0.95) -> SeedComparison:
        """With its interval, and what could have been found."""
        if self.error == 0:
            return SeedComparison(self.difference, Interval(self.difference, self.difference), self.p_value, 0.0)
        detectable = (t_quantile(0.975, self.degrees) + t_quantile(0.8, self.degrees)) * self.error
        reach = t_quantile(0.5 + confidence / 2, self.degrees) * self.error
        interval = Interval(self.difference - reach, self.difference + reach)
        return SeedComparison(self.difference, interval, self.p_value, detectable)


def difference_over_seeds(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seeds: SeedVariance,
                          second_is_trained: bool = True) -> SeedDifference:
    """The difference of two arms on the same items; `first[s][i]` is the score of seed s on item i.

    Its variance is that of the items' mean differences over n, plus `seeds.value` per seed of each trained side (a base
    without training has none). Noise of one seed on one item is in both parts, so the result is slightly conservative.
    """
    differences = [sum(mine) / len(first) - sum(other) / len(second)
                   for mine, other in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)]
    count, difference = len(differences), math.fsum(differences) / len(differences)
    squares = math.fsum((one - difference) ** 2 for one in differences)
    from_items = squares / (count - 1) / count if count > 1 else 0.0
    from_seeds = seeds.value * (1 / len(first) + (1 / len(second) if second_is_trained else 0.0))
    total = from_items + from_seeds
    parts = from_items**2 / max(1, count - 1) + (from_seeds**2 / seeds.degrees if seeds.degrees else 0.0)
    return SeedDifference(difference, math.sqrt(total), total**2 / parts if parts else math.inf)


def compare_over_seeds(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seeds: SeedVariance,
                       second_is_trained: bool = True, confidence: float = 0.95) -> SeedComparison:
    """Compare two arms on the same items; see `difference_over_seeds`."""
    return difference_over_seeds(first, second, seeds, second_is_trained).compared(confidence)


def mean_interval_over_seeds(scores: Sequence[Sequence[float]], seeds: SeedVariance,
                             confidence: float = 0.95) -> Interval:
    """Interval for one arm's mean score; `scores[s][i]` is the score of seed s on item i."""
    zeros = [[0.0] * len(scores[0])]
    found = compare_over_seeds(scores, zeros, seeds, second_is_trained=False, confidence=confidence).interval
    return Interval(max(0.0, found.low), min(1.0, found.high))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularized incomplete beta function by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / max(tiny, 1 - (a + b) * x / (a + 1))
    value = d
    for step in range(1, 10_000):
        for numerator in (step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step)),
                          -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))):
            d = 1 + numerator * d
            c = 1 + numerator / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value
