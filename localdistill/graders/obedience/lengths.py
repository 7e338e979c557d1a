"""Instructions about how long an answer is: words, sentences, paragraphs."""

from __future__ import annotations

import re

from localdistill.graders.obedience.kind import Relation, Rule, compares
from localdistill.texts.sentences import sentences_in

_ENDS_WORD = re.compile(r"[.,?!'\"]")


def number_words(answer: str, num_words: int, relation: Relation) -> bool:
    """So many runs of letters, digits and underscores."""
    return compares(sum(1 for _ in re.finditer(r"\w+", answer)), relation, num_words)


def number_sentences(answer: str, num_sentences: int, relation: Relation) -> bool:
    """So many sentences."""
    return compares(sentences_in(answer), relation, num_sentences)


def number_paragraphs(answer: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs with `***` between; an empty one is allowed at either end only."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def nth_paragraph_first_word(answer: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs with blank lines between, and the n-th, counted with empty ones, begins with the word,
    apart from case, quotation marks before it and what stands behind a mark in it."""
    parts = [part.strip() for part in answer.split("\n\n")]
    filled = sum(map(bool, parts))
    if not 1 <= nth_paragraph <= filled or not parts[nth_paragraph - 1]:
        return False
    begins = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return filled == num_paragraphs and _ENDS_WORD.split(begins, maxsplit=1)[0].lower() == first_word.lower()


LENGTHS = {
    "length_constraints:number_words": Rule(number_words, "A red jar.", "A jar.",
                                            {"num_words": 3, "relation": "at least"}),
    "length_constraints:number_sentences": Rule(number_sentences, "Ask Dr. Egg. He knows.", "Ask. He knows. I do not.",
                                                {"num_sentences": 3, "relation": "less than"}),
    "length_constraints:number_paragraphs": Rule(number_paragraphs, "A jar.\n***\nA lid.", "A jar.\n\nA lid.",
                                                 {"num_paragraphs": 2}),
    "length_constraints:nth_paragraph_first_word": Rule(
        nth_paragraph_first_word, "A jar.\n\n\"Plums, again.", "Plums.\n\nA jar.",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "plums"}),
}
