"""math-verify's reading and comparison, and what it is too lenient about. Only for the judging child: sympy may hang.

Values are compared there after rounding to a fixed number of decimals, so that very small or very large ones come out
equal; a second look at their size says so.
"""

from __future__ import annotations

import re
from typing import Any

_DIGITS = 40
_BITS = 140
_TOLERANCE = 1e-6
_FIGURES = 4
_MOST_PARTS = 8
_OR = re.compile(r"\\text\s*\{\s*or\s*\}|\\lor|\\vee|\bor\b|或")
_RELATES = re.compile(r"[<>≤≥]|\\(?:le|ge|lt|gt)(?:q|qslant)?(?![a-z])")


def read(text: str) -> list[Any]:
    """What math-verify reads in `text`; empty when nothing."""
    from math_verify import parse

    found: list[Any] = parse(text, parsing_timeout=None)
    return found


def read_union(text: str) -> list[Any]:
    """The set of `x < 2 or x > 3`: relations of one name with "or" between them; empty for anything else."""
    from sympy import Union
    from sympy.core.relational import Relational

    parts = _OR.split(text)
    if not 1 < len(parts) <= _MOST_PARTS or not all(_RELATES.search(part) for part in parts):
        return []
    found = [one[0] for part in parts if (one := read(f"\\boxed{{{part.strip(' $')}}}"))]
    names = {name for one in found for name in getattr(one, "free_symbols", ())}
    if len(found) < len(parts) or len(names) != 1 or not all(isinstance(one, Relational) for one in found):
        return []
    return [Union(*(one.as_set() for one in found))]


def are_equal(gold: list[Any], found: list[Any], decimals: int | None = None) -> bool:
    """math-verify's verdict, unless both are numbers of another size; or decimals that parts of `gold` round to, place
    by place. decimals: to which numbers must agree."""
    from math_verify import verify

    if decimals is not None:
        return bool(verify(gold, found, float_rounding=decimals, allow_set_relation_comp=True, timeout_seconds=None))
    equal = bool(verify(gold, found, allow_set_relation_comp=True, timeout_seconds=None))
    return not _differ_in_size(gold[0], found[0]) if equal else _round_each(gold[0], found[0])


def is_closed_form(value: Any) -> bool:
    """True for an expression with one value: no name in it, no set, tuple, interval, relation or matrix."""
    from sympy import Expr

    return isinstance(value, Expr) and not getattr(value, "is_Matrix", False) and not value.free_symbols \
        and bool(value.is_number)


def _round_each(gold: Any, found: Any) -> bool:
    """Whether two values of the same build are equal but for decimals of four figures or more, which parts of the other
    round to."""
    from sympy import Basic, Float

    if gold == found:
        return True
    if not (isinstance(gold, Basic) and isinstance(found, Basic)):
        return False
    for rounded, exact in ((found, gold), (gold, found)):
        if isinstance(rounded, Float) and is_closed_form(exact) and not isinstance(exact, Float):
            return _rounds_to(exact, rounded)
    is_listing = getattr(gold, "is_Matrix", False) or gold.func.__name__ in ("Tuple", "Interval", "FiniteSet", "Union")
    return is_listing and gold.func == found.func and len(gold.args) == len(found.args) and all(
        _round_each(*pair) for pair in zip(gold.args, found.args, strict=True))


def _rounds_to(exact: Any, rounded: Any) -> bool:
    whole, _, decimals = str(rounded).rstrip("0").partition(".")
    if len((whole + decimals).lstrip("-0")) < _FIGURES or not decimals.isdigit():
        return False
    return bool(abs(exact.evalf(_DIGITS) - rounded) * 2 < 10 ** -len(decimals))


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
