"""Scores of several replies to each item: pass@k, majorities, what is chance in items and what in replies, and the test
of differences that are fractions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, product
from statistics import fmean, variance

import pytest

from localdistill.scorecard import ContestantResult, ItemResult, SampleResult, build_score_card, to_text
from localdistill.scorecard.sampling import doublings, error_parts, majority_at_k, pass_at_k
from localdistill.scorecard.statistics import detectable_mean_difference, mcnemar_exact, sign_flip_p


def item(name: str, scores: Sequence[float], answers: Sequence[str] = ()) -> ItemResult:
    said = answers or [f"{score:g}" for score in scores]
    samples = tuple(SampleResult(score, True, False, 10, answer, f"It is {answer}.")
                    for score, answer in zip(scores, said, strict=True))
    return ItemResult(name, fmean(scores), True, False, 10, said[0], samples[0].output, samples=samples)


def contestant(name: str, items: Sequence[ItemResult]) -> ContestantResult:
    return ContestantResult(name, 0, "f", False, 0, "", tuple(items))


@pytest.mark.parametrize(("samples", "right"), [(5, 0), (5, 2), (6, 3), (6, 6)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(samples: int, right: int) -> None:
    replies = [1] * right + [0] * (samples - right)
    for k in range(1, samples + 1):
        assert pass_at_k(samples, right, k) == pytest.approx(fmean(map(max, combinations(replies, k))))


def test_a_majority_votes_by_answers_ties_share_and_silence_has_no_vote() -> None:
    def score(answers: Sequence[str], k: int) -> float:
        return majority_at_k([SampleResult(float(one == "7"), True, False, 1, one) for one in answers], k)

    assert score(["7", "7", "8"], 3) == 1.0 and score(["7", "8", "9"], 3) == pytest.approx(1 / 3)
    assert score(["7", "8", "8"], 3) == 0.0 and score(["7", "", ""], 3) == 1.0 and score(["", ""], 2) == 0.0
    assert score(["7", "7", "8"], 1) == pytest.approx(2 / 3)
    many = ["7"] * 15 + ["8"] * 10
    assert score(many, 25) == 1.0 and 0.7 < score(many, 9) < 0.95, "of many subsets a fixed draw is averaged"


def test_the_numbers_of_replies_that_are_shown_double() -> None:
    assert [doublings(n) for n in (2, 5, 8, 10)] == [[1, 2], [1, 2, 4, 5], [1, 2, 4, 8], [1, 2, 4, 8, 10]]


def test_chance_in_items_and_in_replies_is_told_apart() -> None:
    draw, n = random.Random(3), 8

    def made(rates: Sequence[float]) -> list[ItemResult]:
        return [item(str(place), [float(draw.random() < rate) for _ in range(n)]) for place, rate in enumerate(rates)]

    sure = made([0.0, 1.0] * 100)
    items, replies = error_parts(sure) or (0, 0)
    assert replies == 0 and items == pytest.approx((variance(one.score for one in sure) / 200) ** 0.5)
    alike = made([0.5] * 400)
    items, replies = error_parts(alike) or (0, 0)
    assert replies == pytest.approx((0.25 / n / 400) ** 0.5, rel=0.1) and items < replies
    assert items**2 + replies**2 == pytest.approx(variance(one.score for one in alike) / 400)
    assert error_parts([ItemResult("p", 1.0, True, False, 1)] * 5) is None


def test_a_card_of_several_replies_shows_all_of_it_and_greys_what_rests_on_few() -> None:
    base = [item(str(n), [1.0] * right + [0.0] * (4 - right)) for n, right in enumerate([0, 0, 1, 2, 3, 4, 4, 0])]
    better = [item(str(n), [1.0] * right + [0.0] * (4 - right)) for n, right in enumerate([0, 2, 3, 4, 4, 4, 4, 1])]
    card = build_score_card([contestant("base", base), contestant("arm", better)], "base", "t", "exact")
    row = card.row("arm")
    assert row.samples == 4 and [(one.k, one.is_sure) for one in row.pass_at] == [(1, True), (2, True), (4, False)]
    assert [(one.category, one.items) for one in row.difficulty] == [
        ("never", 3), ("up to 25 %", 1), ("up to 50 %", 1), ("up to 75 %", 1), ("above 75 %", 2)]
    assert row.difficulty[0].score == pytest.approx(1 / 4)
    [comparison] = card.comparisons
    assert comparison.method == "paired permutation test, t interval"
    text = to_text(card)
    assert "pass@4" in text and f"({100 * row.pass_at[2].share:.1f}%)" in text
    assert f"{100 * row.pass_at[1].share:.1f}%" in text and f"({100 * row.pass_at[1].share:.1f}%)" not in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_base_with_few_replies_has_no_groups_of_difficulty() -> None:
    base = [item(str(n), [1.0, 0.0]) for n in range(5)]
    assert build_score_card([contestant("base", base)], "base", "t", "exact").row("base").difficulty == ()


def test_loops_and_replies_without_an_answer_are_counted() -> None:
    loop, silent = "so so " * 200, item("1", [0.0, 0.0], ["", ""])
    samples = SampleResult(1.0, True, False, 9, "7", loop), SampleResult(0.0, False, True, 9, "", loop)
    odd = ItemResult("0", 0.5, True, False, 9, "7", loop, samples=samples)
    row = build_score_card([contestant("base", [odd, silent])], "base", "t", "exact").row("base")
    assert row.loops == 2 and row.unextracted == 2 and row.limit_share == 0.25
    assert "2 of 4 replies go round in circles, 2 ended without an answer" in to_text(
        build_score_card([contestant("base", [odd, silent])], "base", "t", "exact"))


def test_the_permutation_test_of_right_and_wrong_is_mcnemars() -> None:
    for won, lost in ((0, 0), (1, 0), (7, 2), (12, 12), (30, 9)):
        assert sign_flip_p([1.0] * won + [-1.0] * lost + [0.0] * 5) == pytest.approx(mcnemar_exact(won, lost))


@pytest.mark.parametrize("differences", [
    [0.25, -0.5, 0.75, 0.25, 1.0], [1 / 3, 1 / 3, -2 / 3, 1.0, 0.0, 1 / 3], [0.137, 0.291, -0.05, 0.7, 0.33, -0.21]])
def test_the_permutation_test_counts_every_change_of_signs(differences: list[float]) -> None:
    reached, sizes = abs(sum(differences)), [abs(one) for one in differences if one]
    sums = [abs(sum(sign * size for sign, size in zip(signs, sizes))) for signs in product((1, -1), repeat=len(sizes))]
    assert sign_flip_p(differences) == pytest.approx(fmean(one >= reached - 1e-9 for one in sums), abs=1e-9)


def test_a_difference_that_is_said_to_be_seen_is_found_so_often() -> None:
    draw, found = random.Random(5), 0
    seen = detectable_mean_difference([0.3, -0.3] * 50)
    for _ in range(200):
        found += sign_flip_p([draw.gauss(seen, 0.3) for _ in range(100)]) < 0.05
    assert 0.7 < found / 200 < 0.9
