"""What every objective owes to a backend that computes the slope in another order than it is written in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from localdistill.objectives import OBJECTIVES
from localdistill.objectives.base import Objective
from tests.objectives.differences import assert_slope_is_right, portions, random_batch


def members() -> list[object]:
    """Every objective, once with each options that its samples show."""
    found = []
    for name in OBJECTIVES.names():
        member = OBJECTIVES.load(name)
        shown = {str(sample.options): sample.options for sample in member.samples() if not sample.refused}
        found += [pytest.param(member(member.Options.model_validate(options)), id=f"{name}-{said}")
                  for said, options in shown.items()]
    return found


CASES = [(1, 0, 1), (2, 1, 1), (5, 2, 1), (3, 3, 3)]
"""Groups, seed, listed tokens."""
every_objective = pytest.mark.parametrize("objective", members())


@every_objective
@pytest.mark.parametrize("case", CASES)
def test_the_slope_is_the_derivative(objective: Objective, case: tuple[int, int, int]) -> None:
    assert_slope_is_right(objective, random_batch(objective, *case))


@every_objective
@pytest.mark.parametrize("case", CASES)
def test_groups_add_up_in_any_portions(objective: Objective, case: tuple[int, int, int]) -> None:
    batch = random_batch(objective, *case)
    whole, parts = objective.loss(batch), [objective.loss(part) for part in portions(batch)]
    assert whole.total == pytest.approx(sum(part.total for part in parts))
    assert np.concatenate([part.slope.by_logprob for part in parts]) == pytest.approx(whole.slope.by_logprob)
    for name, said in whole.metrics.items():
        assert said == pytest.approx(np.sum([part.metrics[name] for part in parts], axis=0)), name


@every_objective
@pytest.mark.parametrize("case", CASES)
def test_what_is_known_beforehand_is_the_slope(objective: Objective, case: tuple[int, int, int]) -> None:
    batch = random_batch(objective, *case)
    unread = {name: np.full_like(values, np.nan) for name, values in batch.stored.items()}
    blind = replace(batch, logprobs=np.full_like(batch.logprobs, np.nan), stored=unread,
                    tail=None if batch.tail is None else np.full_like(batch.tail, np.nan),
                    mean=None if batch.mean is None else np.full_like(batch.mean, np.nan))
    known, loss = objective.known(blind), objective.loss(batch)
    assert (known is None) is (objective.shape in ("position", "batch"))
    assert (loss.by_row is not None) is (objective.shape == "row")
    if known is None:
        return
    by_row = np.ones(len(batch.sign)) if loss.by_row is None else loss.by_row
    for said, wanted, factor in (
        (known.by_logprob, loss.slope.by_logprob, by_row[batch.row, None]),
        (known.by_tail, loss.slope.by_tail, by_row[batch.row]), (known.by_mean, loss.slope.by_mean, by_row[batch.row]),
    ):
        assert (said is None) is (wanted is None)
        if said is not None and wanted is not None:
            assert wanted == pytest.approx(factor * said)


@every_objective
def test_rows_count_as_much_as_they_are_said_to(objective: Objective) -> None:
    batch = random_batch(objective, 4, 5)
    once, twice = objective.loss(batch), objective.loss(replace(batch, row_weight=2 * batch.row_weight))
    assert once.total != 0 and twice.total == pytest.approx(2 * once.total)
    assert twice.slope.by_logprob == pytest.approx(2 * once.slope.by_logprob)


@every_objective
def test_float32_is_enough_and_nothing_given_is_changed(objective: Objective) -> None:
    batch = random_batch(objective, 3, 6)
    low = replace(batch, logprobs=batch.logprobs.astype(np.float32), weight=batch.weight.astype(np.float32),
                  row_weight=batch.row_weight.astype(np.float32),
                  stored={name: values.astype(np.float32) for name, values in batch.stored.items()},
                  tail=None if batch.tail is None else batch.tail.astype(np.float32),
                  mean=None if batch.mean is None else batch.mean.astype(np.float32))
    kept = low.logprobs.copy(), low.weight.copy()
    assert objective.loss(low).total == pytest.approx(objective.loss(batch).total, rel=1e-5, abs=1e-6)
    assert (low.logprobs == kept[0]).all() and (low.weight == kept[1]).all()


@every_objective
def test_a_resumed_training_goes_on_with_what_was_kept(objective: Objective) -> None:
    other = type(objective)(objective.options)  # type: ignore[attr-defined, call-arg]
    metrics = {name: total / count for name, (total, count) in objective.loss(random_batch(objective, 3, 7))
               .metrics.items() if count}
    said = [objective.watch(metrics) for _ in range(3)]
    other.restore(objective.state())
    assert other.state() == objective.state() and said == [""] * 3
    assert other.watch(metrics) == objective.watch(metrics) and other.state() == objective.state()


@every_objective
def test_it_says_what_it_is(objective: Objective) -> None:
    assert objective.version >= 1 and objective.signs and objective.signs <= {1, -1}
    assert objective.unit in ("weight", "row", "group") and objective.grouping in ("none", "pair", "group")
    assert objective.grouping == "none" or objective.signs == {1, -1}
