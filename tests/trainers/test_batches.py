"""The order of rows, groups kept whole in batches and portions, and what an objective is told of them."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from localdistill.core.errors import InputError
from localdistill.objectives import OBJECTIVES
from localdistill.trainers._batches import epoch_batches, micro_batches
from localdistill.trainers._rows import Dataset, check_groups, read_rows

LENGTHS = [5 + (row * 37) % 101 for row in range(12)]


def drawn(seed: int) -> tuple[list[int], list[int]]:
    """Lengths of rows, and groups of one to four of them, mixed up."""
    draw = random.Random(seed)
    groups = [number for number in range(40) for _ in range(draw.randint(1, 4))]
    draw.shuffle(groups)
    return [draw.randint(5, 90) for _ in groups], groups


def test_rows_without_groups_come_in_the_order_in_which_they_always_came() -> None:
    """Recorded: a training that was begun before there were groups goes on with the rows that it had not seen."""
    assert epoch_batches(LENGTHS, 4, 0, 3, 0) == [[10, 2, 5, 8], [0, 11, 3, 6], [9, 1, 4, 7]]
    assert epoch_batches(LENGTHS, 4, 150, 3, 1) == [[0, 11, 3, 6, 9, 1], [2], [8], [5], [4, 7], [10]]
    pieces = [portion.pieces for portion in micro_batches(range(12), LENGTHS, 200)]
    assert pieces == [((8, 5),), ((2, 10),), ((7, 4, 1, 9),), ((6, 3, 11, 0),)]
    alone = list(range(12))
    assert epoch_batches(LENGTHS, 4, 150, 3, 1, alone, [None] * 12) == epoch_batches(LENGTHS, 4, 150, 3, 1)
    assert micro_batches(alone, LENGTHS, 200, alone) == micro_batches(alone, LENGTHS, 200)


@pytest.mark.parametrize(("rows", "tokens"), [(8, 0), (3, 0), (8, 200), (8, 40)])
def test_batches_keep_groups_whole_and_see_every_row_once(rows: int, tokens: int) -> None:
    lengths, groups = drawn(1)
    batches = epoch_batches(lengths, rows, tokens, 7, 2, groups)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    homes = [{number for number, batch in enumerate(batches) if any(groups[row] == group for row in batch)}
             for group in set(groups)]
    assert all(len(home) == 1 for home in homes)
    for batch in batches:
        size = sum(lengths[row] for row in batch) if tokens else len(batch)
        assert size <= (tokens or rows) or len({groups[row] for row in batch}) == 1
    assert batches == epoch_batches(lengths, rows, tokens, 7, 2, groups)
    assert batches != epoch_batches(lengths, rows, tokens, 8, 2, groups)


def test_rows_of_one_epoch_are_seen_in_it_alone() -> None:
    epochs = [None, 0, 1, 1, None, 2]
    seen = [sorted(row for batch in epoch_batches([9] * 6, 2, 0, 0, epoch, None, epochs) for row in batch)
            for epoch in range(4)]
    assert seen == [[0, 1, 4], [0, 2, 3, 4], [0, 4, 5], [0, 4]]
    assert epoch_batches([9], 2, 0, 0, 1, [0], [0]) == []


@pytest.mark.parametrize("micro_tokens", [1, 50, 120, 400, 5000])
def test_portions_hold_groups_whole_and_split_only_what_does_not_fit(micro_tokens: int) -> None:
    lengths, groups = drawn(2)
    portions = micro_batches(range(len(lengths)), lengths, micro_tokens, groups)
    assert sorted(row for portion in portions for row in portion.rows) == list(range(len(lengths)))
    for group in set(groups):
        assert sum(any(groups[row] == group for row in portion.rows) for portion in portions) == 1
    for portion in portions:
        held = {groups[row] for row in portion.rows}
        whole = sum(lengths[row] for row in portion.rows)
        assert portion.is_split is (len(portion.pieces) > 1)
        assert (whole > micro_tokens and len(held) == 1) if portion.is_split else (
            whole <= micro_tokens or len(portion.rows) == 1)
        for piece in portion.pieces:
            assert sum(lengths[row] for row in piece) <= micro_tokens or len(piece) == 1


def dataset(**columns: list[object]) -> Dataset:
    """Rows of three tokens, of which the last two are trained."""
    rows = len(next(iter(columns.values())))
    return read_rows(pa.table({
        "row_id": [f"row{row}" for row in range(rows)], "input_ids": [[5, 6 + row, 2] for row in range(rows)],
        "weights": [[0.0, 0.5, 1.0]] * rows, **columns}))


def test_an_older_dataset_without_groups_is_read_as_rows_that_stand_alone() -> None:
    rows = dataset(role=[1, -1, 1])
    assert (rows.signs, rows.groups, rows.epochs) == ([1, -1, 1], [0, 1, 2], [None] * 3)
    assert rows.row_weights.tolist() == [1.0] * 3
    assert dataset(sign=[1, -1, 1]).signs == [1, -1, 1]


def test_what_an_objective_is_told_of_some_rows() -> None:
    rows = dataset(sign=[1, 1, -1, 1], group=["", "p", "p", ""], row_weight=[1.0, 0.5, 0.5, 0.25],
                   epoch=[None, None, None, 1])
    batch = rows.listed([2, 0, 1], np.full((6, 1), -1.0), progress=0.5)
    assert batch.row.tolist() == [0, 0, 1, 1, 2, 2] and batch.weight.tolist() == [0.5, 1.0] * 3
    assert batch.sign.tolist() == [-1, 1, 1] and batch.group.tolist() == [0, 1, 0]
    assert batch.row_weight.tolist() == [0.5, 1.0, 0.5] and batch.progress == 0.5 and rows.epochs[3] == 1
    assert rows.units([0, 1, 2], "weight") == 1.5 * 2
    assert rows.units([0, 1, 2], "row") == 2.0 and rows.units([0, 1, 2], "group") == 1.5


def test_whatever_training_sees_makes_another_identity() -> None:
    plain = dataset(sign=[1, 1])
    others = [dataset(sign=[1, -1]), dataset(group=["a", "a"]), dataset(epoch=[None, 0]),
              dataset(row_weight=[1.0, 0.5])]
    assert len({rows.identity() for rows in (plain, *others)}) == 5
    assert dataset(role=[1, 1]).identity() == dataset(group=["", "a"]).identity() == plain.identity()


@pytest.mark.parametrize(("name", "signs", "groups", "said"), [
    ("sft", [1, -1], [0, 1], "row b: the objective sft takes no wrong answers"),
    ("sft", [1, 1], [0, 0], ""),
    ("dpo", [1, -1], [0, 0], ""),
    ("dpo", [1, -1], [0, 1], "row a: .* holds 1 right and 0 wrong"),
    ("dpo", [-1, -1], [0, 0], "row a: .* holds 0 right and 2 wrong"),
    ("redi", [1, -1], [0, 1], ""),
])
def test_rows_that_an_objective_cannot_learn_from_are_named(name: str, signs: list[int], groups: list[int],
                                                            said: str) -> None:
    if not said:
        check_groups(["a", "b"], signs, groups, OBJECTIVES.load(name)())
        return
    with pytest.raises(InputError, match=said) as refused:
        check_groups(["a", "b"], signs, groups, OBJECTIVES.load(name)())
    assert refused.value.hint and "\n" not in refused.value.message
