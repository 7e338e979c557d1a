"""Finds evaluation items in training texts by word n-grams, hashed once. Pure functions on texts, usable without the
filter: evaluation warns with them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

NGRAM = 13
THRESHOLD = 0.5
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_WORD_OR_MARK = re.compile(r"[^\W_]+|[^\w\s]|_")
_COMMON, _COMMON_SHARE = 4, 0.01
"""An n-gram that more of the items have is how such items are written, not what one of them says. How many of the
training texts have it says nothing: a leaked item may stand there in many variants."""
_FIGURES = ((r"\[asy\]", r"\[/asy\]"), (r"\\begin\{tikzpicture\}", r"\\end\{tikzpicture\}"), (r"<svg\b", r"</svg>"))
_FIGURE = re.compile("|".join(f"{begin}(?:(?!{begin}).)*?{end}" for begin, end in _FIGURES), re.DOTALL | re.IGNORECASE)
"""A drawing from its beginning to its end; one that never ends is text."""


def words_of(text: str, mask_numbers: bool = False, marks: bool = False) -> tuple[str, ...]:
    """The words of `text` without case and compatibility forms; numbers become `#` when masked. Punctuation is left out
    unless `marks` are wanted: in formulas the marks say most."""
    found = (_WORD_OR_MARK if marks else _WORD).findall(unicodedata.normalize("NFKC", text).casefold())
    return tuple("#" if mask_numbers and word[0].isdigit() else word for word in found)


def ngrams_of(words: Sequence[str], size: int = NGRAM) -> set[int]:
    """Hashes of all runs of `size` words; empty for a shorter text. Comparable within one process only."""
    return {hash(tuple(words[i:i + size])) for i in range(len(words) - size + 1)}


class ItemIndex:
    """Evaluation items, hashed once, to ask for each text which items it holds."""

    def __init__(self, items: Iterable[str], ngram: int = NGRAM, threshold: float = THRESHOLD,
                 mask_numbers: bool = False, least: int = 0) -> None:
        """An item is held by a text that has a share `threshold` of its word n-grams; with `least` above 0, by one that
        has so many of its n-grams of words and marks, those left out that many of the items have in common. What draws
        a figure is written in few phrases, so only runs of `NGRAM` count there."""
        self._ngram, self._threshold, self._mask, self._least = ngram, threshold, mask_numbers, least
        self._drawn = False
        self._sizes: list[int] = []
        self._by_gram: dict[int, list[int]] = {}
        self._by_words: dict[tuple[str, ...], list[int]] = {}
        for item in items:
            self.add(item)
        if least:
            common = max(_COMMON, _COMMON_SHARE * len(self._sizes))
            self._by_gram = {gram: held for gram, held in self._by_gram.items() if len(held) <= common}

    def add(self, item: str) -> None:
        """One more item, behind the others."""
        index, words = len(self._sizes), self._words(item)
        grams = self._grams(item, words)
        self._sizes.append(len(grams))
        if words:
            self._by_words.setdefault(words, []).append(index)
        for gram in grams:
            self._by_gram.setdefault(gram, []).append(index)

    def found_in(self, texts: Iterable[str]) -> list[int]:
        """Indices of the items of which enough of the n-grams occur in `texts` together, or whose words equal those of
        one text, in ascending order."""
        equal: set[int] = set()
        seen: set[int] = set()
        for words, grams in self._known(texts):
            equal.update(self._by_words.get(words, ()))
            seen |= grams
        counts = self._counts(seen)
        return sorted(equal | {index for index, count in counts.items() if count >= self._enough(index)})

    def why(self, text: str) -> tuple[int, str]:
        """The item that `text` holds most of, and how; -1 where it holds none."""
        [(words, grams)] = self._known([text])
        masked = " with numbers left out" if self._mask else ""
        if equal := self._by_words.get(words):
            return equal[0], f"has exactly the words{masked} of"
        held = [(count / self._sizes[index], count, -index) for index, count in self._counts(grams).items()
                if count >= self._enough(index)]
        if not held:
            return -1, ""
        _, count, place = max(held)
        what = "words and marks" if self._least else "words"
        return -place, f"shares {count} of {self._sizes[-place]} runs of {self._ngram} {what}{masked} with"

    def _enough(self, index: int) -> float:
        """How many of an item's n-grams a text must have."""
        return min(self._least, self._sizes[index]) if self._least else self._threshold * self._sizes[index]

    def _counts(self, grams: Iterable[int]) -> dict[int, int]:
        counts: dict[int, int] = {}
        for gram in grams:
            for index in self._by_gram[gram]:
                counts[index] = counts.get(index, 0) + 1
        return counts

    def _words(self, text: str) -> tuple[str, ...]:
        return words_of(text, self._mask, bool(self._least))

    def _grams(self, item: str, words: Sequence[str]) -> set[int]:
        """The n-grams by which an item is found."""
        figures = _FIGURE.findall(item) if self._least else ()
        if not figures:
            return ngrams_of(words, self._ngram)
        self._drawn = True
        grams = [ngrams_of(self._words(part), self._ngram) for part in _FIGURE.split(item)]
        return set().union(*grams, *(ngrams_of(self._words(figure), max(NGRAM, self._ngram)) for figure in figures))

    def _known(self, texts: Iterable[str]) -> Iterator[tuple[tuple[str, ...], set[int]]]:
        """Words of each text, and those of its n-grams that some item has."""
        for text in texts:
            words = self._words(text)
            grams = ngrams_of(words, self._ngram)
            if self._drawn:
                grams |= ngrams_of(words, max(NGRAM, self._ngram))
            yield words, {gram for gram in grams if gram in self._by_gram}


class GoldIndex:
    """Answers of evaluation items, to ask for each text which of them it quotes. Short ones are in every text."""

    def __init__(self, golds: Iterable[str], least_tokens: int) -> None:
        self._size = least_tokens
        self._by_start: dict[tuple[str, ...], list[tuple[int, tuple[str, ...]]]] = {}
        for index, gold in enumerate(golds):
            words = words_of(gold, marks=True)
            if len(words) >= least_tokens:
                self._by_start.setdefault(words[:least_tokens], []).append((index, words))

    def quoted_in(self, text: str) -> int:
        """The item whose answer stands in `text`, word by word; -1 where none does."""
        if not self._by_start:
            return -1
        words = words_of(text, marks=True)
        for start in range(len(words) - self._size + 1):
            for index, gold in self._by_start.get(words[start:start + self._size], ()):
                if words[start:start + len(gold)] == gold:
                    return index
        return -1


def contaminated(train_texts: Iterable[str], eval_texts: Iterable[str], ngram: int = NGRAM,
                 threshold: float = THRESHOLD, mask_numbers: bool = False) -> list[int]:
    """Ascending indices of the evaluation texts that the training texts contain: at least `threshold` (a share) of
    their word n-grams occur there, or, as for texts of fewer than `ngram` words, all their words in order."""
    return ItemIndex(eval_texts, ngram, threshold, mask_numbers).found_in(train_texts)
