"""Finds the one passage of an answer that states its result.

The order is fixed and never looks at the reference, so offering several results wins nothing:

1. what stands marked last: `\\boxed{...}` (several side by side are one list), a last line `#### N`, or a "final
   answer" announced after them;
2. the last announcement ("the answer is ...", "**Answer:** ...");
3. the conclusion: the last sentence that holds a number.

Which expression of the passage is the result is decided in `choosing`. Pure text work: no sympy here, and nothing here
decides right or wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from localdistill.graders.choosing import choose, states_doubt
from localdistill.graders.expressions import expressions_in
from localdistill.graders.numbers import Number, plain_text
from localdistill.graders.rules import RuleName

PASSAGE_CHARS = 2_000
"""Nobody needs more to state a result; what is longer costs more than its length."""
_BOXES = 20
"""How many boxes are tried from the end, when the last ones never close."""
_ANNOUNCED = re.compile(
    r"(?<!wrong )(?<!incorrect )(?<!false )\banswer\b(?:\s+(?:to|for)\b[^.:\n]{0,80})?(?:\s*(?:\*\*|__))?"
    r"\s*(?:[:：]|\bis\b\s*[:：]?|=|\n)\s*(?:\*\*|__)?|^[ \t]*(?:\*\*)?A(?:ns)?[.:：]+(?:\*\*)?[ \t]+(?=\S)"
    r"|(?:答案|正解|答え|解答)\s*(?:应该|应|就)?\s*(?:是|为|為|は|[:：])\s*[:：]?\s*|^[ \t]*答\s*[:：]\s*",
    re.IGNORECASE | re.MULTILINE,
)
_SAYS_NOTHING = re.compile(
    r"(?:\w+ly\s+|indeed\s+|still\s+|also\s+|therefore\s+)*(?:correct|right|consistent|the\s+same|confirmed|as\s+follows|clear"
    r"|obvious|reasonable|valid|wrong|incorrect|unique|found|given|in|at|not\s+clear|unclear|already|what|that|supposed|expected"
    r"|sound|solid|verified)\b", re.IGNORECASE)
"""How a sentence goes on that speaks about the answer instead of stating it: "the answer is correct"."""
_FINAL = re.compile(r"\bfinal\s+$", re.IGNORECASE)
_SUPPOSED = re.compile(r"\b(?:if|whether|suppose|assume|is|that|unless)\s+(?:the|my|this|your|an?)?\s*$", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]*_$]{0,6}\s+(?=[A-Z\"'“(\[*\\$])|(?<=[。！？；])[”’)\]*_]{0,4}\s*|\n\s*\n|\n(?=\s*(?:[-*•]|\d+\.)\s)"
    r"|\n(?=[A-Z][A-Za-z ]{0,20}[:,])|(?<=[\w.%$])\n(?=[ \t]*[$*]*-?[\d.,]+[$*%.]*\s*\Z)"
    r"|<\|[^|<>\n]{1,40}\|>|^#{1,6} [^\n]*\n", re.MULTILINE)
"""Also lists, paragraphs, headings, a line that opens with a label and a last line of one number end a sentence; a
heading is never one."""
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]{0,80}?)[ \t]*$", re.MULTILINE)
_BARE_LINE = re.compile(r"(?!\d+[.)]\s)[-+$€£¥\\(\[{\d.−][^\n]*")
"""What stands behind `####` in the middle of an answer, where it is no heading."""
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_SIDE_BY_SIDE = re.compile(r"(?:[\s$,;]|\\[()\[\], ;]|\\q?quad|\\text\s*\{[^{}]{0,40}\}|\b(?:and|or)\b)*",
                           re.IGNORECASE)
_BEFORE_A_RESULT = re.compile(
    r"\b(?:is|are|was|were|equals|has|have|had|gets?|leaves|gives|needs?|makes?|total\s+of)\s+(?:only\s+|exactly\s+)?\Z")
_CONCLUDING = re.compile(r"(?:therefore|thus|hence|so|in\s+total|altogether|finally|in\s+conclusion)\b", re.IGNORECASE)
_IN_FORMULA = re.compile(r"\$[^$]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)


@dataclass(frozen=True)
class Extracted:
    """The passage taken for the result and the rule that took it."""

    text: str
    how: RuleName
    start: int
    """Where the passage begins in the searched text."""
    end: int
    """Where it ends."""


def result_of(answer: str) -> Extracted | None:
    """The passage of `answer` (already cut to its tail) that states its result; None when nothing in it can."""
    return stated_result(answer) or _conclusion(answer)


def stated_result(answer: str) -> Extracted | None:
    """The passage that is marked as the result (box, `####` or announcement), or None."""
    boxed, hashes = _boxed(answer), _hashes(answer)
    marked = max(filter(None, (boxed, hashes)), key=lambda one: one.start, default=None)
    if marked is None:
        return _announced(answer)
    return _announced(answer, marked.end, is_final=True) or marked


def other_result(answer: str, passage: Extracted) -> Extracted | None:
    """What is announced after a box as well; the answer is one only when both say the same."""
    return _announced(answer, passage.end) if passage.how == RuleName.BOXED else None


def number_of(passage: Extracted, answer: str, question: str) -> Number | None:
    """The number that `passage` states as the result, or None when it states none."""
    chosen = choose(passage.text, answer[:passage.start], question)
    return chosen.number if chosen else None


def last_boxed(text: str) -> tuple[int, str] | None:
    """Place and content of the last `\\boxed{...}` or `\\fbox{...}` with balanced braces."""
    boxes = _boxes(text)
    return boxes[-1][:2] if boxes else None


def last_formula(answer: str, question: str, any_words: bool = False) -> Extracted | None:
    """The last sentence that holds a formula or an expression, or `any_words`, for results that are no number; None
    where it denies what it names or only says the question again, or where there is none."""
    for start, end in _sentences_from_the_end(answer):
        sentence = answer[start:end].strip()
        if (any_words and sentence) or _IN_FORMULA.search(sentence) or expressions_in(plain_text(sentence)):
            is_none = states_doubt(sentence) or " ".join(sentence.split()) in " ".join(question.split())
            return None if is_none else Extracted(sentence, RuleName.CONCLUSION, start, end)
    return None


def _boxes(text: str) -> list[tuple[int, str, int]]:
    """Place, content and end of the last boxes with balanced braces, in the order of the text."""
    found: list[tuple[int, str, int]] = []
    for match in list(_BOX.finditer(text))[-_BOXES:]:
        depth = 0
        for position in range(match.end() - 1, len(text)):
            depth += (text[position] == "{") - (text[position] == "}")
            if depth == 0:
                found.append((match.start(), text[match.end():position].strip()[:PASSAGE_CHARS], position + 1))
                break
    return found


def _boxed(answer: str) -> Extracted | None:
    """The last box, with those that stand directly beside it."""
    boxes = _boxes(answer)
    if not boxes or not boxes[-1][1]:
        return None
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not box[1] or box[2] > group[0][0] or not _SIDE_BY_SIDE.fullmatch(answer[box[2]:group[0][0]]):
            break
        group.insert(0, box)
    return Extracted(", ".join(dict.fromkeys(box[1] for box in group)), RuleName.BOXED, group[0][0], group[-1][2])


def _hashes(answer: str) -> Extracted | None:
    """The last line `#### N`; sentences may follow it where nothing but a number stands in the line."""
    for found in reversed(list(_HASHES.finditer(answer))):
        is_last = not answer[found.end():].strip()
        is_bare = _BARE_LINE.fullmatch(found[1]) and not re.search(r"[A-Za-z]{2,}\W+\w+\W+\w+", found[1])
        if (is_last or is_bare) and (choose(found[1], "", "") or expressions_in(plain_text(found[1]))):
            return Extracted(found[1].strip(), RuleName.HASH_LINE, found.start(), found.end())
    return None


def _announced(answer: str, after: int = 0, is_final: bool = False) -> Extracted | None:
    """The last announcement that begins at `after` or later; with `is_final` only one of a final answer that holds a
    number."""
    for match in reversed(list(_ANNOUNCED.finditer(answer, after))):
        before = answer[max(0, match.start() - 30):match.start()]
        if _SUPPOSED.search(before) or (is_final and not _FINAL.search(before)):
            continue
        rest = answer[match.end():match.end() + PASSAGE_CHARS]
        statement = _SENTENCE_END.split(rest.strip(), maxsplit=1)[0].strip()
        if not statement or ((after or is_final or _SAYS_NOTHING.match(statement)) and not expressions_in(
                plain_text(statement))):
            continue
        start = match.end() + rest.index(statement)
        return Extracted(statement, RuleName.ANNOUNCED, match.start(), start + len(statement))
    return None


def _conclusion(answer: str) -> Extracted | None:
    """The last sentence with a number. What follows it must have come to its end: a reply that was cut off in the
    middle of another sentence had not concluded."""
    for start, end in _sentences_from_the_end(answer):
        sentence = answer[start:end].strip()
        plain = plain_text(sentence)
        if expressions_in(plain) or _concludes_in_words(sentence):
            return None if _is_cut_off(sentence, answer[end:]) else Extracted(sentence, RuleName.CONCLUSION, start, end)
    return None


def _concludes_in_words(sentence: str) -> bool:
    """True for "so she has four pears.": a number as a word where a result stands."""
    chosen = choose(sentence, "", "") if len(sentence) < 300 else None
    if chosen is None:
        return False
    before = plain_text(sentence)[:chosen.start]
    return not before.strip() or bool(_CONCLUDING.match(sentence) or _BEFORE_A_RESULT.search(before))


def _is_cut_off(sentence: str, after: str) -> bool:
    """True when the text stops in the middle of a formula, or of a longer sentence after one that concluded nothing."""
    if not after.strip():
        return bool(re.search(r"(?<!\*)[=+*/(\[{^-][\s$]*\Z", sentence)) or sentence.count("(") > sentence.count(")")
    last = re.split(r"[.!?:>]\s*|\n", after.strip())[-1]
    return len(last.split()) > 3 and bool(re.search(r"[A-Za-z,]\Z", last)) and not _CONCLUDING.match(sentence)


def _sentences_from_the_end(answer: str) -> list[tuple[int, int]]:
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(answer)), len(answer)]
    return [(max(start, end - PASSAGE_CHARS), end) for start, end in reversed(list(pairwise(ends)))]
