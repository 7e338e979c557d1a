"""A number that begins an expression is not the result of an equation."""

import pytest

from localdistill.rewrites.equations import equations


@pytest.mark.parametrize("right", ["4\\sqrt{2}", "4!", "4x", "4^2", "4π", "4²"])
def test_the_beginning_of_an_expression_is_no_result(right: str) -> None:
    assert equations(f"So k * 3 + 1 = {right}.") == []


@pytest.mark.parametrize("right", ["4", "4 pears", "4kg", "$4"])
def test_a_number_with_its_unit_is_a_result(right: str) -> None:
    assert [equation.result for equation in equations(f"So k * 3 + 1 = {right}.")] == [4]
