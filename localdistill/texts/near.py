"""Finds texts that are nearly one that came before, by the Jaccard similarity of their word n-grams: MinHash (rensa)
names candidates, a block of texts at a time, and each is compared exactly, so that nothing is called near that is not.
Where rensa is not installed all that share an n-gram are compared, which is exact and slower."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from localdistill.core.borders import BORDERS

_WORD = re.compile(r"\w+|[^\w\s]")
_PERMUTATIONS, _BANDS = 128, 32
"""32 bands of 4: of two texts with a similarity of 0.7 all but 1 in 5,000 are found, of 0.5 still 7 of 8."""
_SEED = 42


class Candidates(Protocol):
    """An index of texts under their numbers."""

    def take(self, first: int, texts: Sequence[Sequence[str]]) -> Iterator[Iterable[int]]:
        """Take the n-grams of texts in, numbered from `first`; for each, the earlier numbers that may be near it."""


class NearTexts:
    """The texts that were seen so far, numbered from 0, and which of them are near none before."""

    def __init__(self, threshold: float, ngram: int, mask_numbers: bool = False) -> None:
        """threshold: Jaccard similarity from which a text is near another; ngram: words and marks of one n-gram;
        mask_numbers: all numbers count as equal."""
        self._threshold, self._ngram, self._mask = threshold, ngram, mask_numbers
        self._index: Candidates = index_of()
        self._kept: dict[int, str] = {}
        self._count = 0

    def look_through(self, texts: Iterable[str]) -> Iterator[tuple[int, float] | None]:
        """For each text the earlier one that it is nearest to and their similarity, or None where it is near none, and
        later ones may be near it. A text without words is near nothing."""
        source = iter(texts)
        while block := list(islice(source, BORDERS.near_texts)):
            shingles = [self._shingles(text) for text in block]
            first, self._count = self._count, self._count + len(block)
            for place, candidates in enumerate(self._index.take(first, shingles)):
                found = self._nearest(shingles[place], candidates) if shingles[place] else None
                if found is None:
                    self._kept[first + place] = block[place]
                yield found

    def _nearest(self, shingles: Sequence[str], candidates: Iterable[int]) -> tuple[int, float] | None:
        near = [number for number in candidates if number in self._kept]
        if not near:
            return None
        own = frozenset(shingles)
        similar = [(similarity(own, frozenset(self._shingles(self._kept[number]))), -number) for number in near]
        best, place = max(similar)
        return (-place, best) if best >= self._threshold else None

    def _shingles(self, text: str) -> list[str]:
        words = _WORD.findall(text.casefold())
        if self._mask:
            words = ["#" if word.isdigit() else word for word in words]
        size = min(self._ngram, len(words))
        return [" ".join(words[at:at + size]) for at in range(len(words) - size + 1)] if words else []


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: shared by all; 0 for two empty sets."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


class MinHashIndex:
    """By MinHash: an earlier text that shares a band."""

    def __init__(self, rensa: Any) -> None:
        self._rensa = rensa
        self._index = rensa.RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def take(self, first: int, texts: Sequence[Sequence[str]]) -> Iterator[Iterable[int]]:
        """See `Candidates`. Most texts share a band with no other, which is found out for a block at once."""
        try:
            sketches = self._rensa.RMinHash.digest_matrix_from_token_sets(texts, num_perm=_PERMUTATIONS, seed=_SEED)
        except UnicodeEncodeError:
            texts = [[token.encode("utf-8", "backslashreplace").decode() for token in tokens] for tokens in texts]
            sketches = self._rensa.RMinHash.digest_matrix_from_token_sets(texts, num_perm=_PERMUTATIONS, seed=_SEED)
        shared = self._index.insert_matrix_and_query_duplicate_flags(sketches, first)
        for place, is_shared in enumerate(shared):
            yield self._before(first + place, texts[place]) if is_shared else ()

    def _before(self, number: int, tokens: Sequence[str]) -> list[int]:
        sketch = self._rensa.RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        sketch.update(tokens)
        return sorted(other for other in set(self._index.query(sketch)) if other < number)


class SharedIndex:
    """By counting: every earlier text that shares an n-gram."""

    def __init__(self) -> None:
        self._of: dict[str, list[int]] = {}

    def take(self, first: int, texts: Sequence[Sequence[str]]) -> Iterator[Iterable[int]]:
        """See `Candidates`."""
        for place, tokens in enumerate(texts):
            own = set(tokens)
            yield sorted({number for token in own for number in self._of.get(token, ())})
            for token in own:
                self._of.setdefault(token, []).append(first + place)


def index_of() -> Candidates:
    """The quickest index that there is."""
    try:
        import rensa
    except ImportError:
        return SharedIndex()
    return MinHashIndex(rensa)
