"""Learning from wrong answers: agreement with published values, with each other at their limits, and the collapse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from localdistill.core.losses import ListedLogprobs
from localdistill.objectives.collapse import FIRST_STEPS
from localdistill.objectives.dpo import DpoObjective
from localdistill.objectives.redi import RediObjective
from tests.objectives.differences import random_batch

KINDS = ("sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
         "sigmoid_norm")
PUBLISHED: dict[tuple[float, ...], tuple[float, ...]] = {
    (-10, -12, -11, -11, 0.5): (
        0.31326168751822286, 0, 0.6006250000000001, 0.1882616875182229, 0.11408210766749785, 1.1981539683602134,
        0.9481539683602134, 0.0, 0.7550813375962908, 0.8914007525718496, 0.6384783782388969),
    (-20.5, -20.5, -20.5, -20.5, 0.1): (
        0.6931471805599453, 1.0, 25.0, 0.6931471805599452, 0.5108256237659905, 1.3862943611198906, 1.3862943611198906,
        50.0, 1.0, 1.0, 0.6931471805599453),
    (-5, -9, -6, -7, 0.1): (
        0.5543552444685271, 0.7, 21.855625, 0.5168552444685272, 0.3583833873635646, 1.3156644248011522,
        1.2425355294551625, 25.0, 0.9251868152085821, 0.950536670667281, 0.6770292059996041),
    (-30, -10, -20, -20, 0.5): (
        10.000045398899218, 11.0, 10.5625, 11.250045398899218, 2.3019859660949327, 7.5134306969782365,
        10.013430696978237, 242.0, 1.9866142981514305, 1.0066474530555825, 1.4061501362483146),
    (-1.25, -3.5, -2, -3, 0.1): (
        0.6325990353171691, 0.875, 23.583164062500003, 0.6169740353171691, 0.44420093846040654, 1.3562550352468357,
        1.3248097888400814, 38.3125, 0.9687613876372545, 0.9875318425047789, 0.6859855104156758),
}
"""Log-probabilities of a right answer of 8 and a wrong one of 10 tokens, those of the reference, and beta, to the loss
of each kind; label smoothing is 0.1 where a kind has no meaning without it."""


def dpo(**options: Any) -> DpoObjective:
    return DpoObjective(DpoObjective.Options(**options))


def pair(right: float, wrong: float, reference_right: float, reference_wrong: float) -> ListedLogprobs:
    """A right answer of 8 and a wrong one of 10 tokens, as sums."""
    def spread(first: float, second: float) -> Any:
        return np.array([first / 8] * 8 + [second / 10] * 10)[:, None]

    return ListedLogprobs(spread(right, wrong), np.ones(18), np.array([0] * 8 + [1] * 10), np.ones(2),
                          np.array([1, -1]), np.zeros(2, int),
                          stored={"reference": spread(reference_right, reference_wrong)})


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_published_values(kind: str, case: tuple[float, ...]) -> None:
    smoothing = 0.1 if kind in ("robust", "exo_pair") else 0.0
    loss = dpo(kind=kind, beta=case[4], label_smoothing=smoothing).loss(pair(*case[:4]))
    assert loss.total == pytest.approx(PUBLISHED[case][KINDS.index(kind)], rel=1e-12, abs=1e-12)


def test_before_step_1_the_loss_is_ln_2_and_both_sides_are_pushed_alike() -> None:
    batch = random_batch(dpo(), 6, 1)
    batch = replace(batch, stored={"reference": batch.logprobs}, row_weight=np.ones(len(batch.sign)))
    loss = dpo().loss(batch)
    assert loss.total / 6 == pytest.approx(math.log(2), rel=1e-15)
    assert loss.by_row is not None and loss.by_row.tolist() == pytest.approx((-0.05 * batch.sign).tolist())
    assert loss.metrics["margin"] == (0.0, 6.0)


def test_without_desensitization_ld_dpo_is_dpo_and_with_it_length_counts_less() -> None:
    batch = random_batch(dpo(), 6, 2)
    plain, same, none = (dpo(**options).loss(batch) for options in ({}, {"ld_alpha": 1.0}, {"ld_alpha": 0.0}))
    assert plain.total == same.total and (plain.slope.by_logprob == same.slope.by_logprob).all()
    tokens = np.bincount(batch.row)
    for group in range(6):
        rows = np.flatnonzero(batch.group == group)
        for row in rows:
            slopes = none.slope.by_logprob[batch.row == row, 0]
            assert np.count_nonzero(slopes) == min(tokens[rows]) and not slopes[min(tokens[rows]):].any()
    half = dpo(ld_alpha=0.5)
    assert half.known(batch).by_logprob == pytest.approx(
        (dpo().known(batch).by_logprob + dpo(ld_alpha=0.0).known(batch).by_logprob) / 2)


def test_the_order_of_rows_makes_no_difference() -> None:
    batch = random_batch(dpo(), 5, 3)
    order = np.argsort(-batch.row, kind="stable")
    turned = replace(batch, logprobs=batch.logprobs[order], weight=batch.weight[order], row=batch.row.max() -
                     batch.row[order], sign=batch.sign[::-1], group=batch.group[::-1],
                     row_weight=batch.row_weight[::-1], stored={"reference": batch.stored["reference"][order]})
    assert dpo(ld_alpha=0.3).loss(turned).total == pytest.approx(dpo(ld_alpha=0.3).loss(batch).total)


@pytest.mark.parametrize(("options", "said"), [
    ({"kind": "ipo", "label_smoothing": 0.1}, "means nothing to the loss ipo"),
    ({"kind": "exo_pair"}, "needs label_smoothing"),
    ({"kind": "dpo"}, "sigmoid"),
    ({"beta": 0.0}, "greater than 0"),
    ({"label_smoothing": 0.5}, "less than 0.5"),
])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DpoObjective.Options(**options)


def test_nothing_overflows_far_from_the_reference() -> None:
    for kind in KINDS:
        smoothing = {"label_smoothing": 0.1} if kind in ("robust", "exo_pair") else {}
        for far in (1e4, -1e4):
            loss = dpo(kind=kind, **smoothing).loss(pair(-1e4 + far, -1e4 - far, -1e4, -1e4))
            assert math.isfinite(loss.total) and np.isfinite(loss.slope.by_logprob).all(), kind


def test_redi_is_the_formula_of_its_paper() -> None:
    """-log p(right) / |right| + alpha log p(wrong) / |wrong|, in the mean over pairs."""
    batch = random_batch(dpo(), 4, 4)
    batch = replace(batch, weight=np.ones(len(batch.row)), row_weight=np.ones(8), stored={})
    means = [float(batch.logprobs[batch.row == row].mean()) for row in range(8)]
    expected = sum(-mean if sign > 0 else 0.8 * mean for mean, sign in zip(means, batch.sign, strict=True))
    loss = RediObjective().loss(batch)
    assert loss.total == pytest.approx(expected)
    signs = -batch.sign[batch.row]
    assert (np.sign(loss.slope.by_logprob[:, 0]) == signs).all()
    assert RediObjective(RediObjective.Options(alpha=0.0)).loss(batch).total == pytest.approx(
        -sum(mean for mean, sign in zip(means, batch.sign, strict=True) if sign > 0))


def told(objective: Any, steps: int, right: float, wrong: float) -> list[str]:
    return [said for _ in range(steps)
            if (said := objective.watch({"logprob_right": right, "logprob_wrong": wrong}))]


@pytest.mark.parametrize("objective", [dpo, RediObjective])
def test_a_collapse_is_told_once_also_after_a_resume(objective: Any) -> None:
    running = objective()
    assert told(running, FIRST_STEPS, -0.3, -0.5) == [] and told(running, 5, -0.4, -2.0) == []
    resumed = objective()
    resumed.restore(running.state())
    [said] = told(resumed, 30, -1.5, -2.0)
    assert "-0.30 at first" in said and "wrong ones" in said
    last = objective()
    last.restore(resumed.state())
    assert told(last, 30, -3.0, -4.0) == []


def test_right_answers_that_rise_and_steps_of_one_side_are_no_collapse() -> None:
    running = RediObjective()
    assert told(running, FIRST_STEPS, -0.3, -0.5) == [] and told(running, 50, -0.2, -4.0) == []
    assert running.watch({"logprob_right": -9.0}) == ""
