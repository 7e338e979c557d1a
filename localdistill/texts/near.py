"""Finds texts that are nearly one that came before, by the Jaccard similarity of their word n-grams: MinHash (rensa)
names candidates, and each is compared exactly, so that nothing is called near that is not. Where rensa is not installed
all that share an n-gram are compared, which is exact and slower."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.texts.ngrams import WordGrams, mixed_runs, uint64s

_PERMUTATIONS_PER_BAND, _MOST_BANDS, _MISSED = 4, 128, 1 / 5000
"""An earlier text shares a band of 4 minima with a probability of J^4. As many bands as miss a similarity that is just
at the threshold once in 5,000 times; below a threshold of 0.5 the bands end, and more is missed."""
_SEED = 42

Keys = Sequence[int]
"""By what a text is looked up."""


class NearTexts:
    """The texts that were seen so far, numbered from 0, and which of them are near none before."""

    def __init__(self, threshold: float, ngram: int, mask_numbers: bool = False) -> None:
        """threshold: Jaccard similarity from which a text is near another; ngram: words and marks of one n-gram;
        mask_numbers: all numbers count as equal."""
        self._threshold, self._grams = threshold, WordGrams(ngram, mask_numbers)
        self._keys_of = keys_by(threshold)
        self._numbers: dict[int, int | list[int]] = {}
        """The texts that are near none before, under their keys."""
        self._kept: dict[int, bytes] = {}
        self._count = 0

    def look_through(self, texts: Iterable[str]) -> Iterator[tuple[int, float] | None]:
        """For each text the earlier one that it is nearest to and their similarity, or None where it is near none, and
        later ones may be near it. A text without words is near nothing."""
        source = iter(texts)
        while block := list(islice(source, BORDERS.near_texts)):
            rows = self._grams.rows_of(block)
            for row, keys in zip(rows, self._keys_of(rows)):
                found = self._nearest(row, keys) if len(row) else None
                if found is None and len(row):
                    self._keep(row, keys)
                self._count += 1
                yield found

    def _keep(self, row: memoryview, keys: Keys) -> None:
        self._kept[self._count] = row.tobytes()
        known, number = self._numbers, self._count
        for key in keys:
            held = known.setdefault(key, number)
            if isinstance(held, list):
                held.append(number)
            elif held != number:
                known[key] = [held, number]

    def _nearest(self, row: memoryview, keys: Keys) -> tuple[int, float] | None:
        near = set[int]()
        for key in keys:
            held = self._numbers.get(key)
            if held is not None:
                near.update(held if isinstance(held, list) else (held,))
        if not near:
            return None
        own = frozenset(row)
        similar = [(similarity(own, frozenset(memoryview(self._kept[number]).cast("Q"))), -number) for number in near]
        best, place = max(similar)
        return (-place, best) if best >= self._threshold else None


def similarity(one: frozenset[Any], other: frozenset[Any]) -> float:
    """Jaccard: shared by all; 0 for two empty sets."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def keys_by(threshold: float) -> Callable[[Sequence[memoryview]], Iterator[Keys]]:
    """The quickest keys that there are: texts of this similarity share one."""
    try:
        import rensa
    except ImportError:
        return lambda rows: (row.tolist() for row in rows)
    bands = 1
    if threshold < 1:
        bands = min(_MOST_BANDS, math.ceil(math.log(_MISSED) / math.log(1 - threshold ** _PERMUTATIONS_PER_BAND)))
    return lambda rows: _band_keys(rensa, rows, bands)


def _band_keys(rensa: Any, rows: Sequence[memoryview], bands: int) -> Iterator[Keys]:
    """Each band of minima as one key; the keys of different bands differ, too."""
    import pyarrow.compute as pc

    places = [0]
    for row in rows:
        places.append(places[-1] + len(row))
    permutations = bands * _PERMUTATIONS_PER_BAND
    flat = memoryview(b"".join(rows)).cast("Q")
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, places, num_perm=permutations, seed=_SEED)
    minima = array("Q", chain.from_iterable(digests.to_rows()))
    marks = array("Q", bytes(8 * permutations))
    for band in range(0, permutations, _PERMUTATIONS_PER_BAND):  # what minima are alike says nothing across bands
        marks[band] = (band + 1) << 32
    marked = pc.add(uint64s(minima), uint64s(marks * len(rows)))
    keys = mixed_runs(marked, _PERMUTATIONS_PER_BAND)[::_PERMUTATIONS_PER_BAND].tolist()
    return (keys[at:at + bands] for at in range(0, len(keys), bands))
