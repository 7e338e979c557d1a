"""The batches of a training, in the order in which it sees them: grouped by length, groups whole, a pure function of
seed and lengths, so that a resumed training continues with exactly the rows it had not seen. Must not import torch, nor
hold state."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WINDOW_BATCHES = 16
"""Rows are sorted by length inside windows of this many batches, which keeps padding to a few percent."""


@dataclass(frozen=True)
class Portion:
    """Whole groups that training takes together, as row numbers: in one piece, or, where a single group is too large
    for that, in several, so that its values must be known before its gradient."""

    pieces: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(row for piece in self.pieces for row in piece)

    @property
    def is_split(self) -> bool:
        """A group of it goes through the student in several pieces."""
        return len(self.pieces) > 1


def groups_of(rows: Sequence[int], groups: Sequence[int] | None) -> list[list[int]]:
    """`rows` by the group of each, in the order of their first rows; every row by itself without `groups`."""
    if groups is None:
        return [[row] for row in rows]
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(groups[row], []).append(row)
    return list(found.values())


def epoch_batches(lengths: Sequence[int], batch_rows: int, batch_tokens: int, seed: int, epoch: int,
                  groups: Sequence[int] | None = None, epochs: Sequence[int | None] | None = None) -> list[list[int]]:
    """Row numbers of every optimizer step of one epoch: shuffled, then grouped by length inside windows.

    With `batch_tokens` > 0 a batch ends before it would pass that many tokens; otherwise before it would pass
    `batch_rows` rows. A group is never divided, so that a larger one is a batch by itself. Rows of which `epochs` says
    a number are seen only in that epoch, counted from 0.
    """
    seen = [row for row in range(len(lengths)) if epochs is None or epochs[row] in (None, epoch)]
    order = groups_of(seen, groups)
    shuffle = random.Random(f"{seed}/{epoch}")
    shuffle.shuffle(order)
    rows_per_batch = batch_rows
    if batch_tokens:
        rows_per_batch = max(1, batch_tokens * len(seen) // max(1, sum(lengths[row] for row in seen)))
    window = max(1, rows_per_batch * len(order) // max(1, len(seen))) * WINDOW_BATCHES
    size: Callable[[int], int] = (lambda row: lengths[row]) if batch_tokens else (lambda row: 1)
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        part = sorted(order[start:start + window], key=lambda group: max(lengths[row] for row in group))
        batches += _cut(part, size, batch_tokens or batch_rows)
    shuffle.shuffle(batches)
    return batches


def _cut(part: list[list[int]], size: Callable[[int], int], most: int) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    used = 0
    for group in part:
        more = sum(size(row) for row in group)
        if batches[-1] and used + more > most:
            batches.append([])
            used = 0
        batches[-1] += group
        used += more
    return batches


def micro_batches(batch: Sequence[int], lengths: Sequence[int], micro_tokens: int,
                  groups: Sequence[int] | None = None) -> list[Portion]:
    """`batch` cut into pieces of at most `micro_tokens` tokens (one row at least), longest rows first. With
    `groups`, each stays in one piece where it fits, and in one portion where it does not."""
    portions: list[Portion] = []
    open_piece: list[int] = []

    def size(rows: Sequence[int]) -> int:
        return sum(lengths[row] for row in rows)

    def close() -> None:
        if open_piece:
            portions.append(Portion((tuple(open_piece),)))
            open_piece.clear()

    parts = [sorted(group, key=lambda row: -lengths[row]) for group in groups_of(batch, groups)]
    for group in sorted(parts, key=lambda rows: -lengths[rows[0]]):
        if open_piece and size(open_piece) + size(group) > micro_tokens:
            close()
        if len(group) > 1 and size(group) > micro_tokens:
            pieces = micro_batches(group, lengths, micro_tokens)
            portions.append(Portion(tuple(portion.pieces[0] for portion in pieces)))
        else:
            open_piece += group
    close()
    return portions
