"""The rows of a dataset in memory, what of them an objective is told, and what must not be trained on. Must not import
torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import InputError
from localdistill.core.losses import ListedLogprobs, Unit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from localdistill.core.losses import Floats
    from localdistill.objectives.base import Objective


@dataclass(frozen=True)
class Dataset:
    """All rows of one dataset: numpy arrays, one flat run per column, row i at `starts[i]:starts[i + 1]`."""

    row_ids: list[str]
    ids: npt.NDArray[np.int32]
    """int32 (total tokens,)"""
    weights: npt.NDArray[np.float32]
    """float32 (total tokens,)"""
    starts: list[int]
    signs: list[int]
    """+1 right, -1 wrong."""
    groups: list[int]
    """Which rows belong together: 0.., a row that belongs to no group has one of its own."""
    epochs: list[int | None]
    """The epoch in which alone a row is seen, from 0; None is every."""
    row_weights: npt.NDArray[np.float32]
    """float32 (rows,): how much a row counts beside others; the same for all of a group."""

    def __len__(self) -> int:
        return len(self.row_ids)

    def length(self, row: int) -> int:
        """Tokens of one row."""
        return self.starts[row + 1] - self.starts[row]

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row."""
        return [self.length(row) for row in range(len(self))]

    def identity(self) -> str:
        """Of all that training sees of the rows."""
        import hashlib

        data = hashlib.blake2b(self.ids.tobytes() + self.weights.tobytes() + bytes(str(self.starts), "ascii"))
        told = [self.signs, self.groups, self.epochs, self.row_weights.tolist()]
        if told != [[1] * len(self), list(range(len(self))), [None] * len(self), [1.0] * len(self)]:
            data.update(bytes(str(told), "ascii"))
        return data.hexdigest()

    def trained(self, row: int) -> npt.NDArray[np.intp]:
        """Places in the row of the tokens that are trained: each is told by what stands before it."""
        import numpy as np

        return np.flatnonzero(self.weights[self.starts[row]:self.starts[row + 1]] > 0)

    def units(self, rows: Sequence[int], unit: Unit) -> float:
        """How much `rows`, whole groups, come to in the unit of an objective."""
        if unit == "weight":
            return sum(float(self.weights[self.starts[row]:self.starts[row + 1]].sum() * self.row_weights[row])
                       for row in rows)
        counted = rows if unit == "row" else {self.groups[row]: row for row in reversed(rows)}.values()
        return float(sum(self.row_weights[row] for row in counted))

    def listed(self, rows: Sequence[int], logprobs: Floats, *, tail: Floats | None = None, mean: Floats | None = None,
               stored: Mapping[str, Floats] | None = None, progress: float = 0.0) -> ListedLogprobs:
        """What an objective is told of `rows`: the log-probabilities (N, K) stand in the order of `rows`, those of a
        row in the order of its trained tokens."""
        import numpy as np

        places = [self.trained(row) for row in rows]
        weight = [self.weights[self.starts[row] + at] for row, at in zip(rows, places, strict=True)]
        numbers: dict[int, int] = {}
        groups = [numbers.setdefault(self.groups[row], len(numbers)) for row in rows]
        return ListedLogprobs(
            logprobs, np.concatenate(weight), np.repeat(np.arange(len(rows)), [len(at) for at in places]),
            self.row_weights[list(rows)], np.array([self.signs[row] for row in rows]), np.array(groups), tail, mean,
            stored or {}, progress)


def read_rows(table: pa.Table) -> Dataset:
    """The rows of the dataset table. Raises InputError when there are none or the columns do not fit."""
    import numpy as np

    if table.num_rows == 0:
        raise InputError("the dataset has no rows", "look at what the format and selection removed")
    columns = {name: table.column(name).combine_chunks() for name in ("input_ids", "weights")}
    sizes = {name: np.asarray(column.value_lengths()) for name, column in columns.items()}
    row_ids = [str(value) for value in table.column("row_id").to_pylist()]
    uneven = np.flatnonzero(sizes["input_ids"] != sizes["weights"])
    if len(uneven):
        raise InputError(f"row {row_ids[int(uneven[0])]}: input_ids and weights differ in length")

    def column(name: str, absent: object, older: str = "") -> list[Any]:
        found = next((own for own in (name, older) if own in table.column_names), "")
        return list(table.column(found).to_pylist()) if found else [absent] * len(row_ids)

    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(group or f"/{row}", len(numbers)) for row, group in enumerate(column("group", ""))]
    return Dataset(
        row_ids, columns["input_ids"].flatten().to_numpy(zero_copy_only=False).astype(np.int32),
        columns["weights"].flatten().to_numpy(zero_copy_only=False).astype(np.float32),
        [0, *np.cumsum(sizes["input_ids"]).tolist()], [int(sign) for sign in column("sign", 1, "role")], groups,
        column("epoch", None), np.array(column("row_weight", 1.0), np.float32))


def check_rows(rows: Dataset, vocab_size: int, stop_token_id: int, context_length: int, objective: Objective) -> None:
    """Refuse rows that would teach the wrong thing, and groups that the objective cannot use. Raises InputError that
    names the first such row."""
    import numpy as np

    for row, row_id in enumerate(rows.row_ids):
        ids = rows.ids[rows.starts[row]:rows.starts[row + 1]]
        weights = rows.weights[rows.starts[row]:rows.starts[row + 1]]
        problem = ""
        if len(ids) < 2 or not np.isfinite(weights).all() or (weights < 0).any():
            problem = "weights must be finite and not negative, over at least two tokens"
        elif not 0 < rows.row_weights[row] < np.inf:
            problem = "its weight beside other rows must be finite and above 0"
        elif weights[0] != 0:
            problem = "its first token is trained, but nothing comes before it"
        elif not (weights > 0).any():
            problem = "no token is trained"
        elif ids.min() < 0 or ids.max() >= vocab_size:
            problem = f"a token id is outside the vocabulary of {vocab_size}"
        elif rows.signs[row] > 0 and not ((ids == stop_token_id) & (weights > 0)).any():
            problem = f"the stop token {stop_token_id} is not trained"
        elif len(ids) > context_length:
            problem = f"{len(ids)} tokens do not fit the student's context of {context_length}"
        if problem:
            raise InputError(f"row {row_id}: {problem}", "make the dataset again for this student")
    check_groups(rows.row_ids, rows.signs, rows.groups, objective)


def check_groups(row_ids: Sequence[str], signs: Sequence[int], groups: Sequence[int], objective: Objective) -> None:
    """Refuse rows of a sign, and groups without a side, that the objective cannot learn from. Raises InputError that
    names the first such row."""
    hint = "train with another objective, or lay the arm out in another format"
    held: dict[int, Counter[int]] = {}
    for row_id, sign, group in zip(row_ids, signs, groups, strict=True):
        if sign not in objective.signs:
            what = "right" if sign > 0 else "wrong"
            raise InputError(f"row {row_id}: the objective {objective.name} takes no {what} answers", hint)
        held.setdefault(group, Counter())[sign] += 1
    if objective.grouping == "none":
        return
    for row_id, group in zip(row_ids, groups, strict=True):
        right, wrong = held[group][1], held[group][-1]
        if objective.grouping == "pair" and (right, wrong) != (1, 1):
            wanted = "one right and one wrong answer"
        elif objective.grouping == "group" and not (right and wrong):
            wanted = "right and wrong answers together"
        else:
            continue
        raise InputError(f"row {row_id}: the objective {objective.name} takes {wanted}, and the group of this row "
                         f"holds {right} right and {wrong} wrong", hint)
