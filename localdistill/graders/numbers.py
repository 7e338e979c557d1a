"""Reads numbers as people and models write them: currency, thousands, percent, fractions, LaTeX, clock times,
durations. Pure text work; it never decides which of several numbers is the answer (`extraction` does)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_UNITS = {"N": "newton", "J": "joule", "V": "volt", "W": "watt", "A": "ampere", "K": "kelvin", "C": "coulomb",
          "F": "farad", "T": "tesla", "H": "henry", "M": "molar"}
"""Units of one letter, which elsewhere are names."""
_ONE_LETTER = re.compile(rf"(?<![A-Za-z])[{''.join(_UNITS)}](?![A-Za-z])")
_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<=\d)(?:\{,\}(?:\\!)?|,\\!|\\,|\\!|[\u2009\u202f\u00a0])(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[dtc]?frac\s*(?:(\d)|\{([^{}]*)\})\s*(?:(\d)|\{([^{}]*)\})"), r"\\frac{\1\2}{\3\4}"),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+)(?=,\d)|(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d.,]\d)"),
     lambda match: match[0].replace(".", "")),
    (re.compile(r"(?<=\d)['’](?=\d{3}(?!\d))"), ","),
    (re.compile(r"(?<![\d.])(\d{1,12})\s*\\[dtc]?frac\s*\{\s*(\d{1,12})\s*\}\s*\{\s*(\d{1,12})\s*\}"), r"\1 \2/\3"),
    (re.compile(r"\\[dtc]?frac\s*\{\s*([-\d.,]{1,20})\s*\}\s*\{\s*([\d.,]{1,20})\s*\}"), r"\1/\2"),
    (re.compile(r"\\text(?:bf|it|rm)?\s*\{\s*\\?\$\s*\}"), "$"),
    (re.compile(r"(?<=[\d}\s,!;~])\\(?:text|textrm|mathrm|mbox|rm)\s*\{([^{}]*)\}(?!\s*[_(])"),
     lambda match: f" {_ONE_LETTER.sub(lambda one: _UNITS[one[0]], match[1])} "),
    (re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|rm|it|sf)|mbox|bold|boldsymbol|operatorname)\s*\{([^{}]*)\}"),
     r" \1 "),
    (re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|°"), " degrees "),
    (re.compile(r"\\approx|\\simeq|≅|≃"), "≈"),
    (re.compile(r"\\left|\\right|\\displaystyle|\\(?:q?quad)\b|\\[ ,;:!()\[\]]|~"), " "),
    (re.compile(r"\\([$%#&_{}])"), r"\1"),
    (re.compile("[\u2212\u2013](?=[\\d$.])"), "-"),
)

_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
"""One-character fractions."""
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)}\]%])[-+](?=\s?[$€£¥]?\s?[\d.]))?"
    r"(?:\s?[$€£¥]\s?(?P<sign2>-)?)?"
    r"(?P<whole>(?<![\d.,])(?!0,)\d{1,3}(?:,\d{3})+(?!\d)|(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d|,\d{3}|\.\d|\s?/)"
    r"|(?<![\d.])\d+)?"
    r"(?P<decimals>(?:(?<=\d)|(?<![\d\w]))\.\d+"
    r"|(?:(?<=\d)(?<!,\d)(?<!,\d\d),(?:\d{1,2}|\d{4,})|(?<=(?<!\d)0),\d+)(?!\w|[.,]\d|\s*[)\]}]))?"
    r"(?P<exponent>(?<=\d)[eE][-+]?\d{1,3}(?![\w.]))?"
    r"(?P<over>\s?/\s?\d[\d,]*(?![\d.]))?"
    r"(?P<percent>\s?(?:%|per\s?cent\b|pct\b))?"
    r"(?P<scale>\s(?:hundred|thousand|million|billion|trillion)\b|\s?[万萬亿億])?"
)
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,12})(?:\s+|\s*-\s*|\s+and\s+)(\d{1,12})/(\d{1,12})(?![\d/])")
_CLOCK = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2})(?![\d:])\s*(?:([ap])\.?\s?m\b\.?)?", re.IGNORECASE)
_DURATION = re.compile(
    r"(?<![\d.,])(\d{1,9})\s*(?:hours?|hrs?|h)\b\s*,?\s*(?:and\s+)?(\d{1,9})\s*(?:minutes?|mins?|m)\b", re.IGNORECASE)
_SYMBOLIC = re.compile(
    r"\\[A-Za-z]+|[\^_√π²³!=≈+*×÷<>|{}\[\]]"
    r"|(?<![A-Za-z])(?:pi|sqrt|log|ln|sin|cos|tan|exp|mod|base|squared|cubed|factorial)(?![A-Za-z])"
    r"|(?<![A-Za-z])(?!(?<=\d )[mglhsL](?![A-Za-z])|[aA]\s+[A-Za-z]{2})[A-Za-z](?![A-Za-z.])"
)
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 10**9, "trillion": 10**12, "万": 10**4,
           "萬": 10**4, "亿": 10**8, "億": 10**8}
_LARGEST_EXPONENT = 200
_FIGURES = 4
_LONGEST = 40
"""Digits beyond which a number is left unread: nobody means it, and arithmetic on it is slow."""


@dataclass(frozen=True)
class Number:
    """One number in a text. `readings` holds every value it may stand for (50 % is 50 and 1/2; 2:00 is 2;
    1 hour and 30 minutes is 90 and 3/2), the plain one first."""

    start: int
    end: int
    text: str
    readings: tuple[Fraction, ...]
    is_modifier: bool = False
    """True inside a compound such as `7-day` or `3rd`."""
    step: Fraction | None = None
    """One unit of the last place of a decimal that states four figures or more: how precise it says it is."""
    is_unsure: bool = False
    """True where it may be a list of two: `3,5`."""

    def equals(self, other: Number) -> bool:
        """True when some reading of both is the same value."""
        return not set(self.readings).isdisjoint(other.readings)

    def rounds(self, other: Number) -> bool:
        """True when this is a decimal that the plain value of `other` rounds to. Of two decimals the one that says more
        places has to be `other`."""
        if self.step is None or (other.step is not None and other.step >= self.step):
            return False
        return abs(self.readings[0] - other.readings[0]) * 2 < self.step


def plain_text(text: str) -> str:
    """`text` with LaTeX spacing, units and separators turned into ordinary characters."""
    text = _VULGAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match[0]).replace(chr(0x2044), '/')}", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def numbers_in(plain: str) -> list[Number]:
    """All numbers in a text that went through `plain_text`, from left to right, none overlapping."""
    found = _special(plain)
    free = plain
    for number in found:
        free = free[:number.start] + " " * (number.end - number.start) + free[number.end:]
    for match in _NUMBER.finditer(free):
        if not (match["whole"] or match["decimals"]):
            continue
        readings = _readings(match)
        if readings:
            after = plain[match.end():match.end() + 2]
            modifier = bool(re.match(r"-[A-Za-z]|[A-Za-z]", after)) and not match["percent"]
            step = _step(match)
            found.append(Number(match.start(), match.end(), match[0].strip(), readings, modifier, step,
                                _is_unsure(match)))
    return sorted(found, key=lambda number: number.start)


def only_number(text: str) -> Number | None:
    """The number that `text` consists of, units and currency aside, or None when it holds anything else to compute."""
    plain = plain_text(text).strip().strip("*_`").strip()
    numbers = numbers_in(plain)
    if len(numbers) != 1 or numbers[0].is_unsure:
        return None
    if is_symbolic(plain[:numbers[0].start] + "0" + plain[numbers[0].end:]):
        return None
    rest = plain[:numbers[0].start] + " " + plain[numbers[0].end:]
    return numbers[0] if re.fullmatch(r"[A-Za-z\s$€£¥.,:;()\u3040-\u30ff\u4e00-\u9fff]*", rest) else None


def is_symbolic(plain: str) -> bool:
    """True when a text that went through `plain_text` holds something to compute: an operator, a variable, a function.
    A single letter after a number and a space is a unit when it is one of m, g, l, h, s."""
    return _SYMBOLIC.search(plain) is not None


def _special(plain: str) -> list[Number]:
    """Clock times, durations and mixed fractions: several digits groups that are one number."""
    found: list[Number] = []
    for match in _DURATION.finditer(plain):
        hours, minutes = int(match[1]), int(match[2])
        readings: tuple[Fraction, ...] = (Fraction(hours * 60 + minutes), hours + Fraction(minutes, 60))
        found.append(Number(match.start(), match.end(), match[0], readings))
    for match in _CLOCK.finditer(plain):
        readings = (Fraction(int(match[1])),) if match[2] == "00" else (int(match[1]) + Fraction(int(match[2]), 60),)
        found.append(Number(match.start(), match.end(), match[0].strip(), readings))
    for match in _MIXED.finditer(plain):
        if int(match[3]):
            found.append(Number(match.start(), match.end(), match[0],
                                (int(match[1]) + Fraction(int(match[2]), int(match[3])),)))
    return found


def _readings(match: re.Match[str]) -> tuple[Fraction, ...]:
    whole, decimals = re.sub(r"[, ]", "", match["whole"] or "0"), (match["decimals"] or "").replace(",", ".")
    over = (match["over"] or "").replace("/", "").replace(",", "").strip()
    exponent = int((match["exponent"] or "e0")[1:])
    if len(whole) + len(decimals) + len(over) > _LONGEST or abs(exponent) > _LARGEST_EXPONENT:
        return ()
    value = Fraction(whole + decimals) * Fraction(10) ** exponent
    if over:
        if not int(over):
            return ()
        value /= int(over)
    if "-" in (match["sign"] or "") + (match["sign2"] or ""):
        value = -value
    readings = [value]
    if match["percent"]:
        readings.append(value / 100)
    if match["scale"]:
        readings.insert(0, value * _SCALES[match["scale"].strip()])
    return tuple(readings)


def _step(match: re.Match[str]) -> Fraction | None:
    """One unit of the last decimal; None for what is no decimal, or states fewer than four figures."""
    decimals = (match["decimals"] or "")[1:]
    figures = (re.sub(r"[, ]", "", match["whole"] or "") + decimals).lstrip("0")
    if not decimals or match["over"] or match["scale"] or len(figures) < _FIGURES:
        return None
    return Fraction(1, 10 ** len(decimals)) * Fraction(10) ** int((match["exponent"] or "e0")[1:])


def _is_unsure(match: re.Match[str]) -> bool:
    """`3,5` may be two numbers, `0,5`, `1000,5` and `3,1416` are one."""
    whole, decimals = match["whole"] or "", match["decimals"] or ""
    return decimals.startswith(",") and not (whole == "0" or len(whole) > 3 or len(decimals) > 4)
