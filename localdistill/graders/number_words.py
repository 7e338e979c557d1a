"""Numbers in English words: `five`, `twenty-one`, `one hundred and twenty`, `two and a half`, `three quarters`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_SMALLEST = re.findall(r"\w+", """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen""")
_ONES = {word: value for value, word in enumerate(_SMALLEST)}
_TENS = {word: 20 + 10 * place for place, word in enumerate(
    ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"))}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8,
          "tenth": 10}
_SMALL = "|".join((*_ONES, *_TENS))
_WORD = rf"(?:{_SMALL}|{'|'.join(_SCALES)})"
_FOUND = re.compile(
    rf"(?<![A-Za-z-])(?:(?P<whole>(?:{_SMALL}|(?:a\s+)(?=hundred|thousand|million))(?:(?:[\s-]+(?:and\s+)?){_WORD})*)"
    rf"(?:\s+and\s+(?P<more>an?|one|two|three)\s+(?P<below>{'|'.join(_PARTS)})s?)?"
    rf"|(?P<only>an?|one)\s+(?P<part>{'|'.join(_PARTS)})s?)(?![A-Za-z-])", re.IGNORECASE)
_DIVIDED = re.compile(rf"[\s-]+(?P<part>{'|'.join(_PARTS)})s?(?![A-Za-z-])", re.IGNORECASE)


@dataclass(frozen=True)
class WordNumber:
    """One number in words, and where it stands."""

    start: int
    end: int
    text: str
    value: Fraction


def numbers_in_words(plain: str) -> Iterator[WordNumber]:
    """All of them, from left to right. `one and two` are two numbers, `one hundred and two` is one."""
    for match in _FOUND.finditer(plain):
        end = match.end()
        if match["part"]:
            value: Fraction | None = Fraction(1, _PARTS[match["part"].lower()])
        else:
            value = _value(re.findall(r"[a-z]+", match["whole"].lower()))
            if value is not None and match["more"]:
                count = _ONES.get(match["more"].lower(), 1)
                value += Fraction(count, _PARTS[match["below"].lower()])
            elif value is not None and (divided := _DIVIDED.match(plain, end)):
                value, end = value / _PARTS[divided["part"].lower()], divided.end()
        if value is not None:
            yield WordNumber(match.start(), end, plain[match.start():end], value)


def _value(words: list[str]) -> Fraction | None:
    """The value of words in a row; None where they are several numbers (`two three`)."""
    total = current = 0
    last = 0
    for word in words:
        if word in ("and", "a"):
            continue
        if word in _SCALES:
            scale = _SCALES[word]
            current = max(1, current) * scale
            if scale > 100:
                total, current = total + current, 0
        else:
            small = _ONES.get(word, _TENS.get(word, 0))
            if current % 100 and not (last in _TENS.values() and 0 < small < 10):
                return None
            current += small
            last = small
    return Fraction(total + current)
