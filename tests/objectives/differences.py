"""Batches for objectives, and their slopes against differences of the loss in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from localdistill.core.losses import ListedLogprobs
from localdistill.core.samples import ObjectiveSample
from localdistill.objectives.base import Objective

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

STEP = 1e-6


def batch_of(sample: ObjectiveSample) -> ListedLogprobs:
    """What an objective is told of `sample`."""
    rows = len(sample.signs)
    return ListedLogprobs(
        np.array(sample.logprobs), np.array(sample.weights), np.array(sample.rows),
        np.array(sample.row_weights or [1.0] * rows), np.array(sample.signs), np.array(sample.groups or range(rows)),
        np.array(sample.tail) if sample.tail else None, np.array(sample.mean) if sample.mean else None,
        {name: np.array(values) for name, values in sample.stored.items()})


def random_batch(objective: Objective, groups: int, seed: int, listed: int = 1) -> ListedLogprobs:
    """Rows that the objective takes, of different lengths and weights, in so many groups."""
    draw = np.random.default_rng(seed)
    signs: list[int] = []
    group: list[int] = []
    for number in range(groups):
        if objective.grouping == "none":
            own = [int(sign) for sign in draw.choice(sorted(objective.signs), draw.integers(1, 4))]
        else:
            more = draw.integers(0, 3, 2) if objective.grouping == "group" else (0, 0)
            own = [1] * (1 + int(more[0])) + [-1] * (1 + int(more[1]))
        draw.shuffle(own)
        signs += own
        group += [number] * len(own)
    row = np.repeat(np.arange(len(signs)), draw.integers(1, 7, len(signs)))
    shape = (len(row), listed)

    def logprobs() -> Floats:
        return -draw.exponential(0.7, shape)

    return ListedLogprobs(
        logprobs(), draw.choice([0.25, 1.0], len(row)), row, draw.choice([0.5, 1.0], groups)[group], np.array(signs),
        np.array(group), -draw.exponential(2.0, len(row)) if "tail" in objective.pseudo else None,
        -draw.exponential(9.0, len(row)) if "mean" in objective.pseudo else None,
        {name: logprobs() for name in objective.stored}, float(draw.random()))


def portions(batch: ListedLogprobs) -> Iterator[ListedLogprobs]:
    """The groups of `batch`, each alone."""
    for number in np.unique(batch.group):
        rows = np.flatnonzero(batch.group == number)
        at = np.isin(batch.row, rows)
        yield replace(
            batch, logprobs=batch.logprobs[at], weight=batch.weight[at], row=np.searchsorted(rows, batch.row[at]),
            row_weight=batch.row_weight[rows], sign=batch.sign[rows], group=np.zeros(len(rows), int),
            tail=None if batch.tail is None else batch.tail[at], mean=None if batch.mean is None else batch.mean[at],
            stored={name: values[at] for name, values in batch.stored.items()})


def assert_slope_is_right(objective: Objective, batch: ListedLogprobs) -> None:
    """Each derivative against the difference that a small step of its log-probability makes."""
    slope = objective.loss(batch).slope
    for name, said in (("logprobs", slope.by_logprob), ("tail", slope.by_tail), ("mean", slope.by_mean)):
        values = getattr(batch, name)
        if values is None:
            assert said is None
            continue
        assert said is not None and said.shape == values.shape
        for place in np.ndindex(values.shape):
            step = np.zeros_like(values)
            step[place] = STEP
            up, down = (objective.loss(replace(batch, **{name: values + way * step})).total for way in (1, -1))
            assert said[place] == pytest.approx((up - down) / (2 * STEP), rel=1e-5, abs=1e-6), (name, place)
