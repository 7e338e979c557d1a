"""The dataset in memory and its length-grouped batches, in the order in which training sees them: a pure function of
seed and lengths, so that a resumed training continues with exactly the rows it had not seen. Must not import torch,
nor hold state."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localdistill.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

WINDOW_BATCHES = 16
"""Rows are sorted by length inside windows of this many batches, which keeps padding to a few percent."""


@dataclass(frozen=True)
class Dataset:
    """All rows of one dataset: numpy arrays, one flat run per column, row i at `starts[i]:starts[i + 1]`."""

    row_ids: list[str]
    ids: npt.NDArray[np.int32]
    """int32 (total tokens,)"""
    weights: npt.NDArray[np.float32]
    """float32 (total tokens,)"""
    starts: list[int]
    roles: list[int]

    def __len__(self) -> int:
        return len(self.row_ids)

    def length(self, row: int) -> int:
        """Tokens of one row."""
        return self.starts[row + 1] - self.starts[row]

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row."""
        return [self.length(row) for row in range(len(self))]


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
    starts = [0, *np.cumsum(sizes["input_ids"]).tolist()]
    roles = table.column("role").to_pylist() if "role" in table.column_names else [1] * len(row_ids)
    return Dataset(row_ids, columns["input_ids"].flatten().to_numpy(zero_copy_only=False).astype(np.int32),
                   columns["weights"].flatten().to_numpy(zero_copy_only=False).astype(np.float32), starts,
                   [int(role) for role in roles])


def check_rows(rows: Dataset, vocab_size: int, stop_token_id: int, context_length: int) -> None:
    """Refuse rows that would teach the wrong thing. Raises InputError that names the first such row."""
    import numpy as np

    for row, row_id in enumerate(rows.row_ids):
        ids = rows.ids[rows.starts[row]:rows.starts[row + 1]]
        weights = rows.weights[rows.starts[row]:rows.starts[row + 1]]
        problem = ""
        if len(ids) < 2 or not np.isfinite(weights).all() or (weights < 0).any():
            problem = "weights must be finite and not negative, over at least two tokens"
        elif weights[0] != 0:
            problem = "its first token is trained, but nothing comes before it"
        elif not (weights > 0).any():
            problem = "no token is trained"
        elif ids.min() < 0 or ids.max() >= vocab_size:
            problem = f"a token id is outside the vocabulary of {vocab_size}"
        elif rows.roles[row] > 0 and not ((ids == stop_token_id) & (weights > 0)).any():
            problem = f"the stop token {stop_token_id} is not trained"
        elif len(ids) > context_length:
            problem = f"{len(ids)} tokens do not fit the student's context of {context_length}"
        if problem:
            raise InputError(f"row {row_id}: {problem}", "make the dataset again for this student")


def epoch_batches(lengths: Sequence[int], batch_rows: int, batch_tokens: int, seed: int,
                  epoch: int) -> list[list[int]]:
    """Row numbers of every optimizer step of one epoch: shuffled, then grouped by length inside windows.

    With `batch_tokens` > 0 a batch ends before it would pass that many tokens; otherwise after `batch_rows` rows.
    """
    order = list(range(len(lengths)))
    shuffle = random.Random(f"{seed}/{epoch}")
    shuffle.shuffle(order)
    rows_per_batch = batch_rows
    if batch_tokens:
        rows_per_batch = max(1, batch_tokens * len(lengths) // max(1, sum(lengths)))
    window = rows_per_batch * WINDOW_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start:start + window], key=lambda row: lengths[row])
        batches += _cut(part, lengths, batch_rows, batch_tokens)
    shuffle.shuffle(batches)
    return batches


def _cut(part: list[int], lengths: Sequence[int], batch_rows: int, batch_tokens: int) -> list[list[int]]:
    if not batch_tokens:
        return [part[start:start + batch_rows] for start in range(0, len(part), batch_rows)]
    batches: list[list[int]] = [[]]
    used = 0
    for row in part:
        if batches[-1] and used + lengths[row] > batch_tokens:
            batches.append([])
            used = 0
        batches[-1].append(row)
        used += lengths[row]
    return batches


def micro_batches(batch: Sequence[int], lengths: Sequence[int], micro_tokens: int) -> list[list[int]]:
    """`batch` cut into pieces of at most `micro_tokens` padded tokens (one row at least), longest rows first."""
    pieces: list[list[int]] = []
    for row in sorted(batch, key=lambda item: -lengths[item]):
        if pieces and (len(pieces[-1]) + 1) * lengths[pieces[-1][0]] <= micro_tokens:
            pieces[-1].append(row)
        else:
            pieces.append([row])
    return pieces
