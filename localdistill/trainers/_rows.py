"""The rows of a dataset in memory, what of them an objective is told, and what must not be trained on. Must not import
torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import InputError
from localdistill.core.losses import ListedLogprobs, Unit

if TYPE_CHECKING:
    from typing import TypeVar

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Number = TypeVar("Number", np.int32, np.float32)

    from localdistill.core.losses import Floats
    from localdistill.objectives.base import Objective


FURTHER, COLUMN = "listed", "logprobs_"
"""Name, and beginning of the names, of the columns that list tokens and say what somebody else gave them."""


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
    further: npt.NDArray[np.int32] | None = None
    """int32 (trained tokens, K - 1): tokens whose log-probabilities an objective is told beside the row's own one;
    None where there are none."""
    columns: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Name -> float32 (trained tokens, K): log-probabilities of all of them by somebody else, for example a teacher."""

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
        if self.further is not None:
            data.update(b"further" + self.further.tobytes())
        for name, values in sorted(self.columns.items()):
            data.update(name.encode() + values.tobytes())
        return data.hexdigest()

    def trained(self, row: int) -> npt.NDArray[np.intp]:
        """Places in the row of the tokens that are trained: each is told by what stands before it."""
        import numpy as np

        return np.flatnonzero(self.weights[self.starts[row]:self.starts[row + 1]] > 0)

    @cached_property
    def trained_starts(self) -> list[int]:
        """Where the trained tokens of each row begin among those of all, and where the last ones end."""
        import numpy as np

        return [0, *np.cumsum([len(self.trained(row)) for row in range(len(self))]).tolist()]

    def listed_tokens(self, rows: Sequence[int]) -> npt.NDArray[np.int32]:
        """(N, K) of the trained positions of `rows`, as `listed` takes their log-probabilities: the row's own token
        first."""
        import numpy as np

        own = np.concatenate([self.ids[self.starts[row] + self.trained(row)] for row in rows])[:, None]
        return own if self.further is None else np.concatenate([own, self._of(self.further, rows)], axis=1)

    def column(self, name: str, row: int) -> npt.NDArray[np.float32]:
        """(n, K) of one row."""
        return self._of(self.columns[name], [row])

    def _of(self, values: npt.NDArray[Number], rows: Sequence[int]) -> npt.NDArray[Number]:
        import numpy as np

        return np.concatenate([values[self.trained_starts[row]:self.trained_starts[row + 1]] for row in rows])

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
    rows = Dataset(
        row_ids, columns["input_ids"].flatten().to_numpy(zero_copy_only=False).astype(np.int32),
        columns["weights"].flatten().to_numpy(zero_copy_only=False).astype(np.float32),
        [0, *np.cumsum(sizes["input_ids"]).tolist()], [int(sign) for sign in column("sign", 1, "role")], groups,
        column("epoch", None), np.array(column("row_weight", 1.0), np.float32))
    further = None
    if FURTHER in table.column_names:
        further = _by_position(rows, table, FURTHER).astype(np.int32)
    width = 1 if further is None else 1 + further.shape[1]
    columns = {name.removeprefix(COLUMN): _by_position(rows, table, name, width).astype(np.float32)
               for name in table.column_names if name.startswith(COLUMN)}
    return replace(rows, further=further, columns=columns)


def _by_position(rows: Dataset, table: pa.Table, name: str, width: int = 0) -> npt.NDArray[Any]:
    """A column of as many numbers for each trained token, row by row: (trained tokens, `width`). InputError where a row
    has others."""
    import numpy as np

    values = table.column(name).combine_chunks()
    sizes, trained = np.asarray(values.value_lengths()), np.diff(rows.trained_starts)
    width = width or int(sizes[0] // max(1, trained[0]))
    for row in np.flatnonzero(sizes != width * trained)[:1] if width else [0]:
        raise InputError(f"row {rows.row_ids[row]}: {name} has no {width or 'number'} for each trained token",
                         "make the dataset again")
    flat: npt.NDArray[Any] = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, width)


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
        problem = problem or _wrong_list(rows, row, vocab_size)
        if problem:
            raise InputError(f"row {row_id}: {problem}", "make the dataset again for this student")
    check_groups(rows.row_ids, rows.signs, rows.groups, objective)


def _wrong_list(rows: Dataset, row: int, vocab_size: int) -> str:
    """What is wrong with the listed tokens of a row and their columns; empty where nothing is."""
    import numpy as np

    if any(not np.isfinite(rows.column(name, row)).all() for name in rows.columns):
        return "a stored log-probability is not finite"
    if rows.further is None:
        return ""
    listed = np.sort(rows.listed_tokens([row]), axis=1)
    if listed.min() < 0 or listed.max() >= vocab_size:
        return f"a listed token is outside the vocabulary of {vocab_size}"
    return "a token is listed twice at one position" if (np.diff(listed, axis=1) == 0).any() else ""


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
