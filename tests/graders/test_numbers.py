"""How numbers are read."""

from fractions import Fraction

import pytest

from localdistill.graders.numbers import is_symbolic, numbers_in, only_number, plain_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("−3", -3),
        ("$1,234.50", "1234.5"),
        ("\\$99,\\!076.92", "99076.92"),
        ("160{,}000", 160000),
        ("-$5", -5),
        ("$-5", -5),
        ("1/2", "1/2"),
        ("\\frac{1}{2}", "1/2"),
        ("\\dfrac{3}{4}", "3/4"),
        ("2\\frac{1}{2}", "5/2"),
        ("3 1/2", "7/2"),
        (".5", "1/2"),
        ("5.", 5),
        ("12 apples", 12),
        ("a total of 5 apples", 5),
        ("135\\, \\text{kWh}", 135),
        ("82^\\circ", 82),
        ("\\text{\\$}420", 420),
        ("2:00 \\text{ pm}", 2),
        ("**7**", 7),
        ("3 million", 3_000_000),
        ("1,000,000", 1_000_000),
        ("5 m", 5),
    ],
)
def test_one_number_is_read(text: str, value: int | str) -> None:
    number = only_number(text)
    assert number is not None and number.readings[0] == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five",
        "5!",
        "5²",
        "\\sqrt{5}",
        "5\\pi",
        "5π",
        "sqrt(5)",
        "f(5)",
        "x=5",
        "a-5",
        "10_2",
        "3 and 4",
        "2^3",
        "5x",
        "{1, 2}",
        "3 + 4",
        "1/0",
        "9" * 100,
    ],
)
def test_what_is_more_than_a_number_is_not_read_as_one(text: str) -> None:
    assert only_number(text) is None


def test_percent_and_durations_have_two_readings() -> None:
    half, time = only_number("50\\%"), only_number("1 hour and 30 minutes")
    assert half is not None and set(half.readings) == {Fraction(50), Fraction(1, 2)}
    assert time is not None and set(time.readings) == {Fraction(90), Fraction(3, 2)}


def test_a_minus_between_operands_is_no_sign() -> None:
    assert [n.readings[0] for n in numbers_in(plain_text("20 - 5 and 7-2"))] == [20, 5, 7, 2]


def test_numbers_in_compounds_are_marked() -> None:
    marks = {n.text: n.is_modifier for n in numbers_in(plain_text("75 in a 30-day month, the 3rd one"))}
    assert marks == {"75": False, "30": True, "3": True}


def test_an_article_is_no_variable() -> None:
    assert not is_symbolic("a dozen eggs") and is_symbolic("x eggs")
