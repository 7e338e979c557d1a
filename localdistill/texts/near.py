"""Finds texts that are nearly one that came before, by the Jaccard similarity of their word n-grams: MinHash (rensa)
names candidates, and each is compared exactly, so that nothing is called near that is not. Where rensa is not installed
all that share an n-gram are compared, which is exact and slower."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

_WORD = re.compile(r"\w+|[^\w\s]")
_PERMUTATIONS, _BANDS = 128, 32
"""32 bands of 4: of two texts with a similarity of 0.7 all but 1 in 5,000 are found, of 0.5 still 7 of 8."""


class _Candidates(Protocol):
    def like(self, shingles: Sequence[str]) -> Iterator[int]:
        """Numbers of texts that may be near."""

    def add(self, number: int, shingles: Sequence[str]) -> None:
        """Remember one."""


class NearTexts:
    """The texts that were kept so far, each under a number."""

    def __init__(self, threshold: float, ngram: int, mask_numbers: bool = False) -> None:
        """threshold: Jaccard similarity from which a text is near another; ngram: words and marks of one n-gram;
        mask_numbers: all numbers count as equal."""
        self._threshold, self._ngram, self._mask = threshold, ngram, mask_numbers
        self._candidates: _Candidates = _hashed() or _Shared()
        self._kept: dict[int, frozenset[str]] = {}

    def add(self, number: int, text: str) -> tuple[int, float] | None:
        """The kept text that is nearest to `text`, with their similarity, where that reaches the threshold; otherwise
        `text` is kept under `number`. A text without words is near nothing and not kept."""
        shingles = self._shingles(text)
        own = frozenset(shingles)
        if not own:
            return None
        found = [(similarity(own, self._kept[other]), -other) for other in self._candidates.like(shingles)]
        best, place = max(found, default=(0.0, 0))
        if found and best >= self._threshold:
            return -place, best
        self._kept[number] = own
        self._candidates.add(number, shingles)
        return None

    def _shingles(self, text: str) -> list[str]:
        words = _WORD.findall(text.casefold())
        if self._mask:
            words = ["#" if word.isdigit() else word for word in words]
        size = min(self._ngram, len(words))
        strings = (" ".join(words[at:at + size]) for at in range(len(words) - size + 1))
        return list(dict.fromkeys(strings)) if words else []


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: shared by all; 0 for two empty sets."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


class _MinHash:
    def __init__(self, rensa: Any) -> None:
        self._rensa = rensa
        self._index = rensa.RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def like(self, shingles: Sequence[str]) -> Iterator[int]:
        yield from set(self._index.query(self._sketch(shingles)))

    def add(self, number: int, shingles: Sequence[str]) -> None:
        self._index.insert(number, self._sketch(shingles))

    def _sketch(self, shingles: Sequence[str]) -> Any:
        sketch = self._rensa.RMinHash(num_perm=_PERMUTATIONS, seed=42)
        sketch.update([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
        return sketch


class _Shared:
    def __init__(self) -> None:
        self._of: dict[str, list[int]] = {}

    def like(self, shingles: Sequence[str]) -> Iterator[int]:
        yield from Counter(number for shingle in shingles for number in self._of.get(shingle, ()))

    def add(self, number: int, shingles: Sequence[str]) -> None:
        for shingle in shingles:
            self._of.setdefault(shingle, []).append(number)


def _hashed() -> _Candidates | None:
    """Candidates by MinHash; None where rensa is not installed."""
    try:
        import rensa
    except ImportError:
        return None
    return _MinHash(rensa)
