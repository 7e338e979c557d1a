"""math-verify's reading and comparison, and what it is too lenient about. Only for the judging child: sympy may hang.

Values are compared there after rounding to a fixed number of decimals, so that very small or very large ones come out
equal; a second look at their size says so.
"""

from __future__ import annotations

from typing import Any

_DIGITS = 40
_BITS = 140
_TOLERANCE = 1e-6


def read(text: str) -> list[Any]:
    """What math-verify reads in `text`; empty when nothing."""
    from math_verify import parse

    found: list[Any] = parse(text, parsing_timeout=None)
    return found


def are_equal(gold: list[Any], found: list[Any]) -> bool:
    """math-verify's verdict, unless both are numbers of another size."""
    from math_verify import verify

    return bool(verify(gold, found, timeout_seconds=None)) and not _differ_in_size(gold[0], found[0])


def is_closed_form(value: Any) -> bool:
    """True for an expression with one value: no name in it, no set, tuple, interval, relation or matrix."""
    from sympy import Expr

    return isinstance(value, Expr) and not getattr(value, "is_Matrix", False) and not value.free_symbols \
        and bool(value.is_number)


def _differ_in_size(gold: Any, found: Any) -> bool:
    from sympy import Tuple

    if isinstance(gold, Tuple) and isinstance(found, Tuple) and len(gold) == len(found):
        return any(_differ_in_size(*pair) for pair in zip(gold, found, strict=True))
    if not (is_closed_form(gold) and is_closed_form(found)) or gold == found:
        return False
    if gold.is_Rational and found.is_Rational:
        return True
    try:
        first, second = (value.evalf(_DIGITS)._to_mpmath(_BITS) for value in (gold, found))
    except (ValueError, TypeError, AttributeError):
        return False
    return bool(abs(first - second) > _TOLERANCE * max(abs(first), abs(second)))
