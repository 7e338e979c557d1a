"""Finds the equations that a sentence states, `3 boxes * 4 = 12 eggs` and the like, and drops those that are wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from localdistill.core.arithmetic import evaluate

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_EQUALS = re.compile(
    r"(?<![<>!=])=(?!=)|\b(?:is equal to|equals)\b"
    r"|(?P<verb>,? (?:which|that|this) (?:is|gives|makes)\b"
    r"|\b(?:is|gives?(?: (?:me|us|you))?|makes|would be|comes to)\b)")
_WORDS = (
    (re.compile(r"\b(?:multiplied by|times)\b"), "*"), (re.compile(r"\bplus\b"), "+"), (re.compile(r"\bminus\b"), "-"),
    (re.compile(r"\bdivided by\b"), "/"), (re.compile(r"\bpercent\b"), "%"), (re.compile(r"(?<=%) of\b"), " *"),
)
_TOKEN = re.compile(rf"({_NUMBER})(\s*%)?|([-+*/^()])")
_CLAUSE = re.compile(r"[:;]|, (?=[a-z])|\b(?:so|then|are|was|means|because|since|total of|that|if)\b")
_LEFT_WORDS = 14
_IS_PART = re.compile(r"\s*(?:\\(?!text|mathrm|quad|[ ,;)\]])|[\^_²³√π!])|[A-Za-z](?![A-Za-z])")
"""What makes a number the beginning of an expression (`4\\sqrt{2}`, `4!`, `4x`)."""


@dataclass(frozen=True)
class Equation:
    """`operands` on the left made `result` on the right."""

    operands: tuple[Fraction, ...]
    result: Fraction
    text: str


def equations(sentence: str) -> list[Equation]:
    """The equations of `sentence` in order; one whose arithmetic can be read and is wrong is left out."""
    plain = _plain(sentence)
    marks = list(_EQUALS.finditer(plain))
    found = []
    for number, mark in enumerate(marks):
        start = marks[number - 1].end() if number else 0
        end = marks[number + 1].start() if number + 1 < len(marks) else len(plain)
        left, right = _left_side(plain[start:mark.start()]), plain[mark.end():end]
        result = _first_number(right)
        operands = tuple(_value(text) for text in re.findall(_NUMBER, left))
        if result is None or not operands or not re.search(r"[-+*/^%]", left):
            continue
        computed = calculate(left)
        # A verb is an equals sign only where the arithmetic says so.
        if (computed is None and mark["verb"]) or (computed is not None and not _same(computed, result[0])):
            continue
        found.append(Equation(operands, result[0], f"{left.strip()} = {result[1].strip()}"))
    return found


def calculate(text: str) -> Fraction | None:
    """The value of an arithmetic expression with units and words in it; None when it cannot be read as one."""
    tokens: list[str] = []
    for found in _TOKEN.finditer(re.sub(r"[A-Za-z_$£€\"']+", " ", text)):
        if found[1]:
            tokens.append(found[1].replace(",", ""))
            if found[2]:
                tokens.append("%")
        else:
            tokens.append(found[3])
    return evaluate(tokens)


def _plain(text: str) -> str:
    """LaTeX and Unicode arithmetic as ASCII."""
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)", text)
    text = re.sub(r"\\(?:text|mathrm|boxed|textbf)\s*\{([^{}]*)\}", r" \1 ", text)
    for mark, plain in (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("÷", "/"),
                        ("−", "-"), ("–", "-"), ("\\%", "%"), ("\\$", "$"), ("{,}", ","), ("**", ""), ("≈", "="),
                        ("\\approx", "=")):
        text = text.replace(mark, plain)
    for pattern, sign in _WORDS:
        text = pattern.sub(sign, text)
    text = re.sub(r"\\[()\[\],;! ]|\\(?:left|right|quad)\b|[{}]", " ", text)
    return re.sub(r"(?<=\d)\s*[xX]\s*(?=[$\d(])", " * ", text)


def _left_side(text: str) -> str:
    """The expression at the end of `text`: from its first number on, without what an earlier clause said."""
    text = _CLAUSE.split(text)[-1]
    first = re.search(rf"[-(]?\s*\$?\s*(?:{_NUMBER})", text)
    if first is None or len(text[first.start():].split()) > _LEFT_WORDS:
        return ""
    return text[first.start():]


def _first_number(text: str) -> tuple[Fraction, str] | None:
    """The first number of `text` with what surrounds it closely, when it stands at the beginning."""
    found = re.match(rf"\s*(?:[-$£€(]|about\s)*\s*(-?)({_NUMBER})(?:\s?%|(?:\s[a-zA-Z]+)?)", text)
    if found is None or re.match(r"\s*[-+*/^]\s*[\d($]", text[found.end():]) or _IS_PART.match(text[found.end(2):]):
        return None
    value = _value(found[2])
    negative = "-" in text[:found.start(2)]
    return (-value if negative else value), found[0]


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _same(computed: Fraction, stated: Fraction) -> bool:
    """Equal up to how far results are usually rounded, or up to percent written as a number."""
    return abs(computed - stated) <= abs(stated) / 100 or computed * 100 == stated
