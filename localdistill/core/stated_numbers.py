"""The numbers that a text states in digits, as fractions. Pure text work: what they mean, and which of them is an
answer, is for its readers."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)")


def numbers(text: str) -> list[Fraction]:
    """All numbers in `text` in order; `1,234` is one number, `3.0` equals `3`."""
    return [Fraction(found.replace(",", "")) for found in _NUMBER.findall(_plain(text))]


def _plain(text: str) -> str:
    return text.replace("{,}", ",").replace("\\!", "").replace("−", "-").replace("\u202f", "").replace("\\,", "")
