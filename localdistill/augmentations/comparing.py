"""What is read of replies: question and answer under their marks, and whether two short answers say the same."""

from __future__ import annotations

import re

from localdistill.core.stated_numbers import numbers
from localdistill.templates.unknown_marks import unknown_mark

_MARK = re.compile(r"^[\s*_#>-]*(question|answer)[\s*_]*:[ \t*_]*", re.IGNORECASE | re.MULTILINE)
_VERDICT = re.compile(r"\bverdict[\s*_]*:[\s*_]*(yes|no)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
LEAST_WORDS = 3
MOST_SHORT = 12
"""Words of an answer that can be compared word by word."""


def marked(text: str) -> dict[str, str]:
    """What stands behind `QUESTION:` and behind `ANSWER:`, each as far as the next mark; the first of each that says
    something."""
    marks, found = list(_MARK.finditer(text)), dict[str, str]()
    for mark, following in zip(marks, [*marks[1:], None]):
        said = text[mark.end():following.start() if following else len(text)].strip().strip("*_").strip()
        if said:
            found.setdefault(mark[1].lower(), said)
    return found


def last_answer(text: str) -> str:
    """The first line of what stands behind the last `ANSWER:`; empty where there is none."""
    marks = [mark for mark in _MARK.finditer(text) if mark[1].lower() == "answer"]
    return text[marks[-1].end():].strip().partition("\n")[0].strip(" \t*_") if marks else ""


def verdict(text: str) -> bool | None:
    """What the last `VERDICT:` says; None where there is none."""
    found = _VERDICT.findall(text)
    return found[-1].lower() == "yes" if found else None


def why_no_question(text: str) -> str:
    """Why this cannot be put to anybody, as far as its form says; empty where it can."""
    if not text:
        return "the reply has no line QUESTION:"
    if len(_WORD.findall(text)) < LEAST_WORDS:
        return f"the question has fewer than {LEAST_WORDS} words"
    return "the question holds what looks like a mark of reasoning" if unknown_mark(text) else ""


def says_the_same(one: str, other: str) -> bool:
    """Whether two answers state the same: the one number that each states, else the same words, or a short one's
    words, in order, inside the other. What cannot be compared so does not say the same."""
    stated = numbers(one), numbers(other)
    if stated[0] or stated[1]:
        return len(stated[0]) == len(stated[1]) == 1 and stated[0] == stated[1]
    shorter, longer = sorted((_words(one), _words(other)), key=len)
    if not shorter or len(shorter) > MOST_SHORT:
        return bool(shorter) and shorter == longer
    return any(longer[place:place + len(shorter)] == shorter for place in range(len(longer) - len(shorter) + 1))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
