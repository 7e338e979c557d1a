"""Words as results: which references are words, and whether an answer's passage states the same ones."""

from __future__ import annotations

import re

_WRAPPED = re.compile(r"\\(?:text\w*|math(?:rm|bf|it|sf|tt)|mbox|boldsymbol|bold|operatorname)\s*\{([^{}]*)\}")
_UNSEEN = re.compile(r"[$*_`\"“”]|\\[()\[\],;! ]|\\(?:left|right|quad|qquad)\b")
_WORDS = re.compile(r"[^\W\d_]+(?:[\s,'’-]+[^\W\d_]+)*", re.UNICODE)
_ARTICLE = re.compile(r"^(?:the|an?)\s+")
_LONGEST = 120


def normal_text(text: str) -> str:
    """Words without marks, case, articles and closing punctuation."""
    plain = _UNSEEN.sub(" ", _WRAPPED.sub(r" \1 ", text))
    plain = re.sub(r"\s+", " ", plain).strip().strip("{}()[] ").rstrip(".!?。,;:").strip().casefold()
    return _ARTICLE.sub("", plain)


def words_of(reference: str) -> str | None:
    """The words that a reference consists of, as `normal_text`; None where it is a number, a formula or one letter."""
    plain = normal_text(reference)
    return plain if len(plain) > 1 and len(plain) <= _LONGEST and _WORDS.fullmatch(plain) else None


def are_surely_words(reference: str) -> bool:
    """True where `words_of` cannot be a product of names (`xy`, `abc`)."""
    return "\\text" in reference or "\\mbox" in reference or len(normal_text(reference)) > 3


def states_words(passage: str, words: str, how: str) -> bool:
    """Whether a passage states `words`: it is them, opens with them, or, as a sentence, ends with them."""
    plain = normal_text(passage)
    if plain == words or how == "boxed":
        return plain == words
    opens = re.match(rf"{re.escape(words)}(?!\w)(?:\s*[,.;:(]|\s+(?:because|since|as|so)\b)", plain)
    ends = re.search(rf"(?:^|\W){re.escape(words)}$", plain)
    said = re.search(rf"\b(?:is|are|was|be)\s+(?:an?\s+|the\s+)?{re.escape(words)}(?!\w)(?!\s+(?:or|nor)\b)", plain)
    return bool(opens or ends or (said and how == "conclusion"))
