"""Instructions about which words and letters an answer uses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from localdistill.graders.obedience.kind import Relation, Rule, Word, compares


def _found(word: str, answer: str) -> Iterator[re.Match[str]]:
    return re.finditer(re.escape(word.strip()), answer, re.IGNORECASE)


def existence(answer: str, keywords: list[Word]) -> bool:
    """Every keyword occurs, in any case, also inside a word."""
    return all(any(_found(word, answer)) for word in keywords)


def frequency(answer: str, keyword: Word, frequency: int, relation: Relation) -> bool:
    """The keyword occurs so often, in any case, also inside words."""
    return compares(sum(1 for _ in _found(keyword, answer)), relation, frequency)


def forbidden_words(answer: str, forbidden_words: list[Word]) -> bool:
    """None of the words occurs as a word, in any case."""
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in forbidden_words)


def letter_frequency(answer: str, letter: Word, let_frequency: int, let_relation: Relation) -> bool:
    """The letter, or sign, occurs so often, in any case."""
    return compares(answer.lower().count(letter.strip().lower()), let_relation, let_frequency)


WORDS_USED = {
    "keywords:existence": Rule(existence, "A jar of Plums.", "A jar.", {"keywords": ["plum", "jar"]}),
    "keywords:frequency": Rule(frequency, "Eggs and an egg.", "One egg.",
                               {"keyword": "egg", "frequency": 2, "relation": "at least"}),
    "keywords:forbidden_words": Rule(forbidden_words, "The eggs.", "An Egg.", {"forbidden_words": ["egg"]}),
    "keywords:letter_frequency": Rule(letter_frequency, "A plum.", "A Plump plum.",
                                      {"letter": "p", "let_frequency": 2, "let_relation": "less than"}),
}
