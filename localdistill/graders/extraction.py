"""Finds the one passage of an answer that states its result, and the number in it.

The order is fixed and never looks at the reference, so offering several results wins nothing:

1. the last `\\boxed{...}`;
2. a last line `#### N`;
3. the last announcement ("the answer is ...", "**Final answer:** ...");
4. the conclusion: the last sentence that holds a number.

A passage may hold several numbers ("she spends $75 in 30 days"). What stands in brackets or before a hyphen
(`7-day`) is an aside; then a bold number, what follows an equals sign, a number that ends the passage after "is", the
number before the noun that the question counts ("how many sheep"), the value computed last before the passage, and a
number that the question did not give, are preferred in this order; else the first is taken.

Pure text work: no sympy here, and nothing here decides right or wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from localdistill.graders.numbers import Number, numbers_in, plain_text

TAIL_CHARS = 20_000
"""Only this much of the end of an answer is searched: results stand at the end, and hostile text stays cheap."""

_BOXES = 20
"""How many boxes are tried from the end, when the last ones never close."""
_ANNOUNCED = re.compile(
    r"\banswer\b(?:\s+(?:to|for)\b[^.:\n]{0,80})?(?:\s*(?:\*\*|__))?\s*(?:[:：]|\bis\b\s*[:：]?|=|\n)\s*(?:\*\*|__)?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]*_]{0,6}\s+(?=[A-Z\"'“(\[*\\$])|\n\s*\n|\n(?=\s*(?:[-*•]|\d+\.)\s)"
    r"|^#{1,6} [^\n]*\n", re.MULTILINE)
"""Also lists, paragraphs and headings end a sentence; a heading is never one."""
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]{0,80})\s*\Z", re.MULTILINE)
_BOLD = re.compile(
    r"\*\*(.{1,200}?)\*\*|__(.{1,200}?)__|\\(?:mathbf|textbf|bold|boldsymbol)\{([^{}]{1,200})\}", re.DOTALL)
_COUNTED = re.compile(r"\bhow\s+many\s+(?:(?:more|fewer|total|whole|of|the|other)\s+)*([a-z]{3,30})", re.IGNORECASE)
_BRACKETS = re.compile(r"(?<!\\)\([^()\\]{0,300}\)")


@dataclass(frozen=True)
class Extracted:
    """The passage taken for the result and the rule that took it."""

    text: str
    how: str
    start: int
    """Where the passage begins in the searched text."""


def result_of(answer: str) -> Extracted | None:
    """The passage of `answer` (already cut to its tail) that states its result; None when nothing in it can."""
    return stated_result(answer) or _conclusion(answer)


def stated_result(answer: str) -> Extracted | None:
    """The passage that is marked as the result (box, `####` or announcement), or None."""
    return _boxed(answer) or _hashes(answer) or _announced(answer)


def number_of(passage: Extracted, answer: str, question: str) -> Number | None:
    """The number that `passage` states as the result, or None when it holds none."""
    bold = [plain_text(next(filter(None, match.groups()))) for match in _BOLD.finditer(passage.text)]
    plain = next((text for text in reversed(bold) if numbers_in(text)), plain_text(passage.text))
    if "=" in plain and numbers_in(plain.rpartition("=")[2]):
        plain = plain.rpartition("=")[2]
    unbracketed = _BRACKETS.sub(lambda match: " " * len(match[0]), plain)
    numbers = numbers_in(unbracketed) or numbers_in(plain)
    numbers = [number for number in numbers if not number.is_modifier] or numbers
    if len(numbers) < 2:
        return numbers[0] if numbers else None
    return (
        _predicate(plain, numbers)
        or _counted(plain, numbers, question)
        or _computed_last(answer[:passage.start], numbers)
        or _not_given(numbers, question)
        or numbers[0]
    )


def _predicate(plain: str, numbers: list[Number]) -> Number | None:
    """The last of `numbers` when the passage says "... is N" and ends, a unit of up to three words aside."""
    last = numbers[-1]
    before = plain[max(0, last.start - 40):last.start]
    is_said = re.search(r"\b(?:is|are|was|were|equals|be)\s+(?:about\s+|approximately\s+|only\s+|=\s*)?$", before)
    return last if is_said and re.fullmatch(r"(?:\s+[A-Za-z]+){0,3}[\s.!*$]*", plain[last.end:]) else None


def _counted(plain: str, numbers: list[Number], question: str) -> Number | None:
    """The only number that stands right before the noun of the question's last "how many NOUN"."""
    nouns = _COUNTED.findall(question)
    if not nouns:
        return None
    noun = nouns[-1].lower().removesuffix("s")
    found = [n for n in numbers if re.match(rf"\s+(?:more\s+|total\s+)?{noun}", plain[n.end:].lower())]
    return found[0] if len(found) == 1 else None


def _computed_last(before: str, numbers: list[Number]) -> Number | None:
    """The first of `numbers` that equals what follows the last equals sign of `before`."""
    for part in reversed(plain_text(before[-3_000:]).split("=")[1:]):
        computed = numbers_in(part)
        if computed:
            return next((number for number in numbers if number.equals(computed[0])), None)
    return None


def _not_given(numbers: list[Number], question: str) -> Number | None:
    """The first of `numbers` that does not stand in the question."""
    given = numbers_in(plain_text(question))
    return next((number for number in numbers if not any(number.equals(other) for other in given)), None)


def last_boxed(text: str) -> tuple[int, str] | None:
    """Place and content of the last `\\boxed{...}` or `\\fbox{...}` with balanced braces."""
    for match in reversed(list(re.finditer(r"\\f?box(?:ed)?\s*\{", text))[-_BOXES:]):
        depth = 0
        for position in range(match.end() - 1, len(text)):
            depth += (text[position] == "{") - (text[position] == "}")
            if depth == 0:
                return match.start(), text[match.end():position].strip()
    return None


def _boxed(answer: str) -> Extracted | None:
    found = last_boxed(answer)
    return Extracted(found[1], "boxed", found[0]) if found and found[1] else None


def _hashes(answer: str) -> Extracted | None:
    found = _HASHES.search(answer)
    return Extracted(found[1].strip(), "####", found.start()) if found and numbers_in(plain_text(found[1])) else None


def _announced(answer: str) -> Extracted | None:
    for match in reversed(list(_ANNOUNCED.finditer(answer))):
        statement = _SENTENCE_END.split(answer[match.end():].strip(), maxsplit=1)[0].strip()
        if statement:
            return Extracted(statement, "announced", match.start())
    return None


def _conclusion(answer: str) -> Extracted | None:
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(answer)), len(answer)]
    for start, end in reversed(list(pairwise(ends))):
        sentence = answer[start:end].strip()
        if numbers_in(plain_text(sentence)):
            return Extracted(sentence, "conclusion", start)
    return None

