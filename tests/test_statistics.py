"""Statistics against published values, exact enumeration and simulation."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean

import pytest

from localdistill.scorecard.statistics import (
    SeedVariance,
    compare_over_seeds,
    detectable_difference,
    holm,
    mcnemar_exact,
    mean_difference_interval,
    mean_interval_over_seeds,
    normal_quantile,
    paired_difference_interval,
    pooled_seed_variance,
    t_cdf,
    t_quantile,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "count", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])
def test_wilson_gives_the_published_intervals(successes: int, count: int, low: float, high: float) -> None:
    found = wilson_interval(successes, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_stays_inside_the_unit_interval_and_mirrors() -> None:
    assert wilson_interval(0, 20).low == 0.0
    assert wilson_interval(20, 20).high == 1.0
    one, other = wilson_interval(3, 40), wilson_interval(37, 40)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    assert wilson_interval(0, 0).high == 1.0


def test_newcombe_gives_the_published_paired_interval() -> None:
    found = paired_difference_interval(both=36, won=12, lost=2, neither=0)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_newcombe_turns_round_with_the_sides() -> None:
    one, other = paired_difference_interval(50, 20, 5, 25), paired_difference_interval(50, 5, 20, 25)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low > 0


def test_newcombe_covers_the_true_difference() -> None:
    rng = random.Random(3)
    shares, count, rounds, covered = (0.4, 0.2, 0.1, 0.3), 80, 600, 0
    for _ in range(rounds):
        cells = [0, 0, 0, 0]
        for cell in rng.choices(range(4), shares, k=count):
            cells[cell] += 1
        found = paired_difference_interval(*cells)
        covered += found.low <= 0.1 <= found.high
    assert 0.92 <= covered / rounds <= 0.98


def test_mcnemar_is_the_exact_two_sided_binomial_test() -> None:
    assert mcnemar_exact(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar_exact(0, 6) == pytest.approx(0.03125)
    assert mcnemar_exact(4, 4) == 1.0
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(2000, 2600) < 1e-15


def test_mcnemar_keeps_its_error_rate() -> None:
    rng = random.Random(5)
    rounds, found = 3000, 0
    for _ in range(rounds):
        discordant = sum(rng.random() < 0.3 for _ in range(100))
        won = sum(rng.random() < 0.5 for _ in range(discordant))
        found += mcnemar_exact(won, discordant - won) < 0.05
    assert found / rounds < 0.055


def test_holm_adjusts_in_steps_and_never_falls() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"x": 0.9, "y": 0.8}) == {"x": 1.0, "y": 1.0}
    assert holm({}) == {}


@pytest.mark.parametrize(("probability", "degrees", "value"), [
    (0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 5, 2.57058), (0.95, 10, 1.81246), (0.9995, 3, 12.92398),
    (0.975, math.inf, 1.95996), (0.025, 5, -2.57058),
])
def test_t_quantiles_are_those_of_the_tables(probability: float, degrees: float, value: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(value, abs=1e-4)
    assert t_cdf(value, degrees) == pytest.approx(probability, abs=1e-5)


def test_normal_quantile() -> None:
    assert normal_quantile(0.975) == pytest.approx(1.959964, abs=1e-6)


def test_detectable_difference_has_the_power_it_claims() -> None:
    rng = random.Random(11)
    count, share = 200, 0.2
    difference = detectable_difference(count, share)
    win_rate, rounds, found = (1 + difference / share) / 2, 2000, 0
    for _ in range(rounds):
        discordant = sum(rng.random() < share for _ in range(count))
        won = sum(rng.random() < win_rate for _ in range(discordant))
        found += won > discordant - won and mcnemar_exact(won, discordant - won) <= 0.05
    assert found / rounds == pytest.approx(0.8, abs=0.03)


def test_detectable_difference_shrinks_with_items_and_grows_with_discordance() -> None:
    by_items = [detectable_difference(count, 0.2) for count in (50, 200, 800)]
    assert all(more < fewer for fewer, more in pairwise(by_items))
    assert detectable_difference(200, 0.1) < detectable_difference(200, 0.4)
    assert detectable_difference(400, 0.2) == pytest.approx((1.96 + 0.8416) * math.sqrt(0.2 / 400), rel=0.08)


def test_too_few_items_detect_nothing() -> None:
    assert detectable_difference(5, 0.5) == 1.0
    assert detectable_difference(0, 0.5) == 1.0


def test_mean_difference_interval_is_students() -> None:
    found = mean_difference_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.low, found.high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)


def test_seed_variance_is_pooled_by_degrees_of_freedom() -> None:
    found = pooled_seed_variance([[0.4, 0.6], [0.5, 0.5, 0.8], [0.3]])
    assert found == SeedVariance(pytest.approx((0.02 + 0.06) / 3), 3)
    assert pooled_seed_variance([[0.4], [0.5]]) == SeedVariance(0.0, 0)


def _seed_rounds(seed_spread: float, rounds: int, ignore_seeds: bool) -> float:
    """How often two equal formats are called different, when seeds move an arm's rate by `seed_spread`."""
    rng = random.Random(17)
    found = 0
    for _ in range(rounds):
        easiness = [rng.uniform(0.1, 0.9) for _ in range(100)]
        arms = []
        for _ in range(2):
            shifts = [rng.gauss(0, seed_spread) for _ in range(3)]
            arms.append([[float(rng.random() < rate + shift) for rate in easiness] for shift in shifts])
        spread = pooled_seed_variance([[fmean(seed) for seed in arm] for arm in arms])
        if ignore_seeds:
            spread = SeedVariance(0.0, 0)
        found += compare_over_seeds(arms[0], arms[1], spread).p_value < 0.05
    return found / rounds


def test_comparison_over_seeds_keeps_its_error_rate_where_items_alone_do_not() -> None:
    assert _seed_rounds(0.08, 250, ignore_seeds=False) <= 0.07
    assert _seed_rounds(0.08, 250, ignore_seeds=True) > 0.2


def test_comparison_over_seeds_finds_a_real_difference() -> None:
    rng = random.Random(2)
    better = [[float(rng.random() < 0.7) for _ in range(200)] for _ in range(3)]
    worse = [[float(rng.random() < 0.4) for _ in range(200)] for _ in range(3)]
    spread = pooled_seed_variance([[fmean(seed) for seed in arm] for arm in (better, worse)])
    found = compare_over_seeds(better, worse, spread)
    assert found.p_value < 0.001 and found.interval.low > 0.15 and 0 < found.detectable < 0.3


def test_an_untrained_base_brings_no_seed_variance() -> None:
    arm, base = [[1.0, 0.0] * 20] * 3, [[0.0, 0.0, 1.0, 1.0] * 10]
    spread = SeedVariance(0.01, 4)
    with_base = compare_over_seeds(arm, base, spread, second_is_trained=False).interval
    with_arm = compare_over_seeds(arm, base, spread).interval
    assert with_base.high - with_base.low < with_arm.high - with_arm.low


def test_identical_results_are_not_different() -> None:
    same = [[1.0, 0.0, 1.0]]
    found = compare_over_seeds(same, same, SeedVariance(0.0, 0))
    assert found.p_value == 1.0 and found.difference == 0.0


def test_mean_interval_over_seeds_widens_with_seed_variance() -> None:
    scores = [[1.0, 0.0] * 50] * 3
    narrow = mean_interval_over_seeds(scores, SeedVariance(0.0, 0))
    wide = mean_interval_over_seeds(scores, SeedVariance(0.02, 4))
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high
