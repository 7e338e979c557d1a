"""Finds evaluation items in training texts by word n-grams, hashed once. Pure functions on texts, usable without the
filter: evaluation warns with them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

NGRAM = 13
THRESHOLD = 0.5
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")


def words_of(text: str, mask_numbers: bool = False) -> tuple[str, ...]:
    """The words of `text` without case, punctuation and compatibility forms; numbers become `#` when masked."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return tuple("#" if mask_numbers and word[0].isdigit() else word for word in found)


def ngrams_of(words: Sequence[str], size: int = NGRAM) -> set[int]:
    """Hashes of all runs of `size` words; empty for a shorter text. Comparable within one process only."""
    return {hash(tuple(words[i:i + size])) for i in range(len(words) - size + 1)}


class ItemIndex:
    """Evaluation items, hashed once, to ask for each text which items it holds."""

    def __init__(self, items: Iterable[str], ngram: int = NGRAM, threshold: float = THRESHOLD,
                 mask_numbers: bool = False) -> None:
        self._ngram, self._threshold, self._mask = ngram, threshold, mask_numbers
        self._sizes: list[int] = []
        self._by_gram: dict[int, list[int]] = {}
        self._by_words: dict[tuple[str, ...], list[int]] = {}
        for index, item in enumerate(items):
            words = words_of(item, mask_numbers)
            grams = ngrams_of(words, ngram)
            self._sizes.append(len(grams))
            if words:
                self._by_words.setdefault(words, []).append(index)
            for gram in grams:
                self._by_gram.setdefault(gram, []).append(index)

    def found_in(self, texts: Iterable[str]) -> list[int]:
        """Indices of the items of which at least `threshold` of the n-grams occur in `texts` together, or whose words
        equal those of one text, in ascending order."""
        equal: set[int] = set()
        seen: set[int] = set()
        for words, grams in self._known(texts):
            equal.update(self._by_words.get(words, ()))
            seen |= grams
        counts: dict[int, int] = {}
        for gram in seen:
            for index in self._by_gram[gram]:
                counts[index] = counts.get(index, 0) + 1
        overlapping = {index for index, count in counts.items() if count >= self._threshold * self._sizes[index]}
        return sorted(equal | overlapping)

    def _known(self, texts: Iterable[str]) -> Iterator[tuple[tuple[str, ...], set[int]]]:
        """Words of each text, and those of its n-grams that some item has."""
        for text in texts:
            words = words_of(text, self._mask)
            yield words, {gram for gram in ngrams_of(words, self._ngram) if gram in self._by_gram}


def contaminated(train_texts: Iterable[str], eval_texts: Iterable[str], ngram: int = NGRAM,
                 threshold: float = THRESHOLD, mask_numbers: bool = False) -> list[int]:
    """Ascending indices of the evaluation texts that the training texts contain: at least `threshold` (a share) of
    their word n-grams occur there, or, as for texts of fewer than `ngram` words, all their words in order."""
    return ItemIndex(eval_texts, ngram, threshold, mask_numbers).found_in(train_texts)
