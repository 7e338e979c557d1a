"""Works out arithmetic on fractions by recursive descent: numbers, + - * / ^ %, signs and brackets, as tokens. Nothing
is evaluated as code, and what is too large or too deep to be meant has no value. How a text becomes tokens is for its
readers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

_MAX_POWER = 64
_MAX_DIGITS = 60


def evaluate(tokens: Sequence[str], implied_products: bool = False) -> Fraction | None:
    """The value of an expression, None when `tokens` are none, too deep in brackets, or a number on
    the way is too large. `%` stands behind
    what it divides by a hundred. implied_products: a bracket behind a number multiplies it."""
    parser = _Parser(tokens, implied_products)
    try:
        value = parser.sum()
    except (IndexError, ValueError, ZeroDivisionError, RecursionError):
        return None
    return value if parser.at_end else None


class _Parser:
    """Recursive descent."""

    def __init__(self, tokens: Sequence[str], implied_products: bool) -> None:
        self._tokens, self._place, self._implied_products = tokens, 0, implied_products

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
            elif self._implied_products and not self.at_end and self._tokens[self._place] == "(":
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
