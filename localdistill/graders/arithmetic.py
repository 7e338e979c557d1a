"""Works out plain arithmetic on fractions: numbers, + - * / ^ and brackets. Nothing from a model is evaluated as code,
and what is not plain arithmetic, or too large to be meant, has no value."""

from __future__ import annotations

import re
from fractions import Fraction

_TOKEN = re.compile(r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<percent>\s?%)?"
                    r"|(?P<sign>[-+*/^()]))")
_SIGNS = (("\\times", "*"), ("\\cdot", "*"), ("\\ast", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("∙", "*"),
          ("÷", "/"), ("−", "-"), ("²", "^2"), ("³", "^3"), ("{", "("), ("}", ")"))
_LONGEST = 200
"""Characters beyond which an expression is left alone."""
_MAX_POWER = 64
_MAX_DIGITS = 60


def value_of(text: str) -> Fraction | None:
    """The value of an arithmetic expression, or None."""
    for mark, plain in _SIGNS:
        text = text.replace(mark, plain)
    text = re.sub(r"(?<=[\d)])\s*[xX]\s*(?=[\d($])", "*", text)
    text = re.sub(r"[$€£¥]\s?", "", text).strip()
    if not 0 < len(text) <= _LONGEST:
        return None
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        tokens.append((found["number"] or found["sign"]).replace(",", ""))
        if found["percent"]:
            tokens += ["%"]
    reader = _ArithmeticParser(tokens)
    try:
        value = reader.sum()
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    return value if reader.at_end else None


class _ArithmeticParser:
    """Recursive descent."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._place = tokens, 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._tokens)

    def _take(self, wanted: str) -> bool:
        if not self.at_end and self._tokens[self._place] == wanted:
            self._place += 1
            return True
        return False

    def sum(self) -> Fraction:
        value = self._product()
        while True:
            if self._take("+"):
                value += self._product()
            elif self._take("-"):
                value -= self._product()
            else:
                return _checked(value)

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            if self._take("*"):
                value *= self._signed()
            elif self._take("/"):
                value /= self._signed()
            elif not self.at_end and self._tokens[self._place] == "(":
                value *= self._signed()
            else:
                return _checked(value)

    def _signed(self) -> Fraction:
        if self._take("-"):
            return -self._signed()
        if self._take("+"):
            return self._signed()
        base = self._atom()
        if not self._take("^"):
            return base
        exponent = self._signed()
        if exponent.denominator != 1 or abs(exponent) > _MAX_POWER:
            raise ValueError("the power is too large")
        return _checked(base ** int(exponent))

    def _atom(self) -> Fraction:
        if self._take("("):
            value = self.sum()
            if not self._take(")"):
                raise ValueError("a bracket is open")
        else:
            token = self._tokens[self._place]
            self._place += 1
            value = Fraction(token)
        return value / 100 if self._take("%") else value


def _checked(value: Fraction) -> Fraction:
    if len(str(value.numerator)) + len(str(value.denominator)) > _MAX_DIGITS:
        raise ValueError("the number is too long")
    return value
