"""Tuning without a training: what the rule and a range test say, which tries fit into a time, and what they lead to."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest

from localdistill.stages.tuning import (
    LEAST_STEPS,
    Attempt,
    Cost,
    Halving,
    Setting,
    grid,
    range_around,
    read_range,
    rule_of,
    rungs_of,
    rungs_within,
)

RULE = 1e-3
RATES = [10 ** (-4.5 + 3 * step / 99) for step in range(100)]


def falling(best: float = 3e-3, noise: float = 0.0, explodes: bool = True) -> list[float]:
    """A loss that falls faster with the rate, and rises from `best` on."""
    draw, loss, losses = random.Random(0), 3.0, []
    for rate in RATES:
        loss -= 0.08 * math.exp(-math.log10(rate / best * 3) ** 2) if rate < best else 0.0
        rise = 2.0 * math.log10(rate / best) ** 2 if explodes and rate > best else 0.0
        losses.append(loss + rise + draw.gauss(0, noise))
    return losses


def test_the_rule_is_ten_times_full_fine_tuning_and_lower_for_wider_students() -> None:
    assert rule_of(2000) == pytest.approx(5e-4)
    assert [float(f"{rule_of(width):.1e}") for width in (256, 896, 4096)] == [2.5e-3, 9.4e-4, 2.9e-4]
    first, last = range_around(RULE)
    assert last / first == pytest.approx(1000) and math.sqrt(first * last) == pytest.approx(RULE)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_range_test_finds_the_rate_between_the_steepest_fall_and_the_rise(noise: float) -> None:
    reading = read_range(RATES, falling(noise=noise), RULE)
    assert 5e-4 < reading.centre < 3.5e-3 and "falls fastest at" in reading.told and "rises from" in reading.told


def test_an_explosion_ends_the_range_test_and_what_was_seen_before_counts() -> None:
    losses = [*falling()[:70], 9.0, 40.0, 300.0]
    reading = read_range(RATES[:73], losses, RULE)
    assert 4e-4 < reading.centre < 3e-3
    early = read_range(RATES[:5], [3.0, 3.1, 50.0, 60.0, 70.0], RULE)
    assert early.centre == RULE and "went astray after 5 steps" in early.told


@pytest.mark.parametrize("losses", [
    [2.0] * 100, [2.0 + 0.01 * step for step in range(100)],
    *([random.Random(seed).gauss(2, 0.3) for _ in range(100)] for seed in range(5))])
def test_a_loss_that_does_not_fall_leaves_it_to_the_rule(losses: list[float]) -> None:
    draw = random.Random(1)
    reading = read_range(RATES, [loss if loss != 2.0 else draw.gauss(2, 1e-6) for loss in losses], RULE)
    assert reading.centre == RULE and "did not fall" in reading.told


def test_a_loss_that_falls_to_the_end_says_so() -> None:
    reading = read_range(RATES, [3 - 0.01 * step for step in range(100)], RULE)
    assert "still falls at" in reading.told and reading.centre > RULE


def test_the_grid_begins_at_the_centre_and_drops_its_ends_first() -> None:
    found = grid(1e-3, 4, (8, 32), (2.0,))
    assert [one.learning_rate for one in found[::2]] == [1e-3, 3.3e-4, 3e-3, 9e-3]
    assert [one.rank for one in found[:2]] == [8, 32]
    assert [one.learning_rate for one in grid(1e-3, 1, (8,), (1.0,))] == [1e-3]


def test_rungs_keep_one_of_so_many_and_go_on_longer() -> None:
    plan = rungs_of(9, 3, 1.0)
    assert plan.sizes == (9, 3) and plan.shares == pytest.approx((1 / 3, 1.0))
    assert rungs_of(5, 3, 0.6).sizes == (5, 2) and rungs_of(30, 3, 1.0).sizes == (30, 10, 4, 2)
    assert [plan.steps(0, length) for length in (300, 45, 10)] == [100, LEAST_STEPS, 10]


def test_what_fits_into_the_time_is_as_many_settings_as_can_be_and_then_as_long_tries() -> None:
    cost, lengths = Cost(1.0, 10.0), [300] * 9
    whole = 9 * (10 + 100) + 3 * (10 + 300)
    assert rungs_within(lengths, cost, whole, 3) == rungs_of(9, 3, 1.0)
    assert rungs_within(lengths, cost, whole - 1, 3) == rungs_of(9, 3, 0.9)
    fewer = rungs_within(lengths, cost, 300, 3)
    assert fewer is not None and fewer.sizes[0] < 9 and fewer.seconds(lengths[:fewer.sizes[0]], cost) <= 300
    assert rungs_within(lengths, cost, 100, 3) is None


class Fake:
    """A trainer with a known best setting: the score says how far away it is, and less so after few steps."""

    def __init__(self, best: Setting, slow: float = 1.0, astray: float = math.inf,
                 scores: Mapping[float, float] | None = None) -> None:
        self.best, self.slow, self.astray, self.scores = best, slow, astray, scores
        self.done: list[tuple[int, Setting, int]] = []

    def __call__(self, rung: int, setting: Setting, steps: int) -> Attempt:
        self.done.append((rung, setting, steps))
        far = abs(math.log10(setting.learning_rate / self.best.learning_rate))
        far += abs(math.log2(setting.rank / self.best.rank)) / 10 + abs(setting.epochs - self.best.epochs) / 10
        score = (self.scores or {}).get(setting.learning_rate, round(0.9 - 0.3 * far, 2))
        wrong = "the loss exploded" if setting.learning_rate > self.astray else ""
        seconds = self.slow * steps + 5
        return Attempt(steps, (far,), (setting.learning_rate,), 1.0, None if wrong else score, seconds,
                       self.slow * steps, 1, 4.0, wrong)


def length(setting: Setting) -> int:
    return round(100 * setting.epochs)


SETTINGS = grid(1e-3, 5, (8, 16), (1.0, 2.0))
COST = Cost(1.0, 5.0)


def test_halving_finds_the_best_setting_and_tells_every_try() -> None:
    best = Setting(3e-3, 16, 2.0)
    fake = Fake(best)
    halving = Halving(length, fake, 3)
    assert halving.choose(SETTINGS, COST, 1e6) == best and halving.told == []
    sizes = [sum(rung == number for rung, _, _ in fake.done) for number in (1, 2, 3)]
    assert sizes == [20, 7, 3] == [sum(one.rung == number for one in halving.tries) for number in (1, 2, 3)]
    assert [one.kept for one in halving.tries if one.rung == 1] == [True] * 7 + [False] * 13
    assert [one.setting for one in halving.tries if one.rung == 3 and one.kept] == [best]
    assert {steps for rung, one, steps in fake.done if rung == 3} <= {100, 200}, "the last rung trains in full"


def test_equal_scores_are_told_apart_by_the_loss_and_what_went_astray_comes_last() -> None:
    equal = dict.fromkeys((one.learning_rate for one in SETTINGS), 0.5)
    halving = Halving(length, Fake(Setting(3.3e-4, 8, 1.0), scores=equal), 3)
    assert halving.choose(SETTINGS, COST, 1e6) == Setting(3.3e-4, 8, 1.0)
    wild = Fake(Setting(9e-3, 16, 2.0), astray=2e-3)
    halving = Halving(length, wild, 3)
    assert halving.choose(SETTINGS, COST, 1e6).learning_rate == 1e-3
    assert all(not one.kept for one in halving.tries if one.astray)
    ruined = Halving(length, Fake(Setting(9e-3, 16, 2.0), astray=0.0), 3)
    ruined.choose(SETTINGS, COST, 1e6)
    assert "every try of the last rung went astray" in ruined.told[-1]


def test_settings_that_do_not_fit_are_named_and_never_passed_over() -> None:
    fake = Fake(Setting(1e-3, 8, 1.0))
    halving = Halving(length, fake, 3)
    halving.choose(SETTINGS, COST, 400)
    tried = {setting for _, setting, _ in fake.done}
    assert 2 <= len(tried) < len(SETTINGS) and sum(one.seconds for one in halving.tries) <= 400
    [left_out] = [text for text in halving.told if "did not fit into the time" in text]
    assert left_out.startswith(f"{len(SETTINGS) - len(tried)} of 20 settings")
    assert all(one.told() in left_out for one in SETTINGS if one not in tried)


def test_without_time_for_two_tries_the_first_setting_is_taken_and_what_it_would_need_is_said() -> None:
    halving = Halving(length, Fake(SETTINGS[3]), 3)
    assert halving.choose(SETTINGS, COST, 20) == SETTINGS[0] and halving.tries == []
    assert "nothing was tried: two tries take about 70 s, and 20 s were left" in halving.told[0]
    alone = Halving(length, Fake(SETTINGS[0]), 3)
    assert alone.choose(SETTINGS[:1], COST, 0) == SETTINGS[0] and alone.told == []


@pytest.mark.parametrize(("slow", "seconds", "rungs", "said"), [
    (10.0, 3000, 1, "the time was over in rung 1"), (1.5, 1400, 2, "the time was over before rung 3"),
    (1.3, 1400, 3, "the time was over in rung 3")])
def test_tries_that_take_longer_than_foreseen_end_in_time_and_say_what_was_left_out(
        slow: float, seconds: float, rungs: int, said: str) -> None:
    fake = Fake(Setting(3e-3, 16, 2.0), slow=slow)
    halving = Halving(length, fake, 3)
    chosen = halving.choose(SETTINGS, COST, seconds)
    assert max(rung for rung, _, _ in fake.done) == rungs, halving.told
    assert any(text.startswith(said) for text in halving.told), halving.told
    assert sum(one.seconds for one in halving.tries) <= seconds
    last = max(one.rung for one in halving.tries)
    assert [one.setting for one in halving.tries if one.rung == last and one.kept] == [chosen]


def test_a_choice_at_the_end_of_the_grid_says_so() -> None:
    for rate, end in ((1.1e-4, "lowest"), (9e-3, "highest"), (1e-3, "")):
        halving = Halving(length, Fake(Setting(rate, 8, 1.0)), 3)
        halving.choose(grid(1e-3, 5, (8,), (1.0,)), COST, 1e6)
        assert ([f"the {end} rate that was tried" in text for text in halving.told] == [True]) == bool(end)
