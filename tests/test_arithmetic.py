"""Arithmetic on fractions, by the one parser that graders and rewrites share."""

from __future__ import annotations

from fractions import Fraction

import pytest

from localdistill.core.arithmetic import evaluate
from localdistill.rewrites.equations import calculate


@pytest.mark.parametrize(("text", "value"), [
    ("2 + 3 * 4", 14), ("- 3 ^ 2", -9), ("( - 3 ) ^ 2", 9), ("2 ^ - 1", Fraction(1, 2)), ("20 % * 5", 1),
    ("100 / 20 %", 500), ("8 - 2 - 1", 5), ("8 / 2 / 2", 2), ("1 / 0", None), ("2 ^ 65", None), ("9 ^ 64 * 9", None),
    ("2 +", None), ("( 2", None), ("2 3", None), ("", None), ("2 ( 3 )", None),
])  # fmt: skip
def test_an_expression_has_its_usual_value_or_none(text: str, value: Fraction | int | None) -> None:
    assert evaluate(text.split()) == value


def test_brackets_beyond_all_depth_have_no_value() -> None:
    assert evaluate(["("] * 5000) is None


def test_a_bracket_multiplies_only_where_that_is_said() -> None:
    assert evaluate(["2", "(", "3", ")"], implied_products=True) == 6


@pytest.mark.parametrize(("text", "value"), [("-3^2 + 10", 1), ("20% * $50", 10), ("2^40", 2**40)])
def test_sentences_are_worked_out_by_the_same_rules(text: str, value: int) -> None:
    assert calculate(text) == value
