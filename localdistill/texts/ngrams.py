"""The word n-grams of many texts as numbers of 64 bits, the same on every machine: words are hashed once each, runs of
them by arrow, without a Python object per n-gram. Two different n-grams are one number with a chance of 2^-64."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_WORD = re.compile(r"\w+|[^\w\s]")
_FACTOR, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
"""Odd numbers without a pattern: of the golden ratio, and of a mixing function for 64 bits."""
_MOST_PIECES, _LONGEST_PIECE = 500_000, 64


class _NumbersByPiece(dict[str, tuple[int, ...]]):
    """What stands between blanks, each with the numbers of its words and marks; bounded."""

    def __init__(self, mask_numbers: bool) -> None:
        super().__init__()
        self._mask = mask_numbers

    def __missing__(self, piece: str) -> tuple[int, ...]:
        words = _WORD.findall(piece)
        found = tuple(_number("#" if self._mask and word.isdigit() else word) for word in words)
        if len(piece) <= _LONGEST_PIECE:  # longer ones hardly come again
            if len(self) >= _MOST_PIECES:
                self.clear()
            self[piece] = found
        return found


class WordGrams:
    """Cuts texts into their n-grams of words and marks, without case."""

    def __init__(self, ngram: int, mask_numbers: bool = False) -> None:
        """ngram: words and marks of one n-gram; mask_numbers: all numbers count as equal."""
        self._ngram, self._pieces = ngram, _NumbersByPiece(mask_numbers)

    def rows_of(self, texts: Sequence[str]) -> list[memoryview]:
        """The n-grams of each text, of format `Q`, in their order; a shorter text is one n-gram, one without words
        none."""
        numbers, ends, known = array("Q"), [0], self._pieces.__getitem__
        for text in texts:
            numbers.extend(chain.from_iterable(map(known, text.casefold().split())))
            ends.append(len(numbers))
        runs = mixed_runs(uint64s(numbers), self._ngram)
        return [runs[begin:end - self._ngram + 1] if end - begin >= self._ngram
                else mixed_runs(uint64s(numbers[begin:end]), max(1, end - begin)) for begin, end in pairwise(ends)]


def uint64s(numbers: array[int]) -> pa.UInt64Array:
    """`numbers` (of type `Q`) for arrow, without a copy."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.uint64(), len(numbers), [None, pa.py_buffer(numbers)])


def mixed_runs(numbers: pa.UInt64Array, size: int) -> memoryview:
    """A number for each run of `size` neighbours of `numbers`, of format `Q`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(numbers) - size + 1
    if count <= 0:
        return memoryview(array("Q"))
    factor = pa.scalar(_FACTOR, pa.uint64())
    found = numbers.slice(0, count)
    for place in range(1, size):  # products and sums wrap around
        found = pc.add(pc.multiply(found, factor), numbers.slice(place, count))
    found = pc.bit_wise_xor(found, pc.shift_right(found, pa.scalar(32, pa.uint64())))
    found = pc.multiply(found, pa.scalar(_MIX, pa.uint64()))
    found = pc.bit_wise_xor(found, pc.shift_right(found, pa.scalar(29, pa.uint64())))
    return memoryview(found.buffers()[1])[:count * 8].cast("Q")


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
