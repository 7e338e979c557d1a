"""Curves and interval bars as text: nice axes, many points, what is no number, series told apart by letters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui.widgets.interval_bars import difference_bar, scale_of, score_bar
from tui.widgets.line_chart import BROKEN, Series, draw, legend, nice_step, number, ticks


def braille(text: str) -> bool:
    return any(0x2800 < ord(char) < 0x2900 for char in text)


@pytest.mark.parametrize(("span", "most", "step"), [(10, 5, 2), (1, 4, 0.5), (3, 4, 1), (997, 8, 200), (3e-4, 3, 1e-4)])
def test_steps_are_one_two_or_five_times_a_power_of_ten(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == pytest.approx(step)
    assert span / nice_step(span, most) <= most


def test_ticks_lie_inside_and_on_nice_numbers() -> None:
    assert ticks(0.13, 2.9, 4) == [1.0, 2.0]
    assert [number(value, 0.5) for value in ticks(0.3, 1.6, 4)] == ["0.5", "1.0", "1.5"]
    assert number(2000, 1000) == "2,000" and number(3e-5, 1e-5) == "3e-5" and number(0, 0.1) == "0"


def test_a_falling_curve_begins_above_and_ends_below() -> None:
    rows = draw([Series("a", [(step, 1 / step) for step in range(1, 50)])], 60, 12).text()
    plot = [(row.partition("┤")[2] or row.partition("│")[2]).ljust(50) for row in rows[:-2]]
    assert len(rows) == 12 and all(len(row) <= 60 for row in rows)
    assert braille(plot[0][:3]) and not braille(plot[0][-10:])
    assert braille(plot[-1][-10:]) and not braille(plot[-1][:3])


def test_a_spike_survives_ten_thousand_points() -> None:
    points = [(step, 1.0 if step != 5_003 else 9.0) for step in range(10_000)]
    rows = draw([Series("a", points)], 80, 12).text()
    assert any(braille(row) for row in rows[:2]), "the one high value is not drawn"


def test_what_is_no_number_is_marked_and_breaks_the_curve() -> None:
    points = [(step, math.nan if 20 <= step <= 30 else 1.0 + step / 100) for step in range(1, 51)]
    rows = draw([Series("a", points)], 70, 10).text()
    assert BROKEN in rows[-3]
    left = rows[-3].index(BROKEN)
    right = rows[-3].rindex(BROKEN)
    assert all(not braille(row[left + 1:right]) for row in rows[:-2]), "the gap is bridged"
    assert "not a number at step 20" in legend([Series("a", points)]).plain


def test_nothing_finite_and_no_room_draw_nothing() -> None:
    assert draw([], 80, 20).rows == [] and draw([Series("a", [(1, math.nan)])], 80, 20).rows == []
    assert draw([Series("a", [(1, 1.0), (2, 2.0)])], 8, 3).rows == []


def test_series_are_told_apart_without_colour() -> None:
    falling = Series("one", [(step, 10.0 - step) for step in range(10)])
    rising = Series("two", [(step, float(step)) for step in range(10)])
    drawing = draw([falling, rising], 60, 14)
    text = "\n".join(drawing.text())
    assert text.count("A") == text.count("B") == 2
    assert legend([falling, rising]).plain.splitlines() == ["A one  1", "B two  9"]
    assert {cell.series for row in drawing.rows for cell in row} == {-1, 0, 1}
    assert "A" not in "\n".join(draw([falling], 60, 14).text()), "a single curve needs no letter"


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(-5, 10**6), st.floats()), max_size=30), max_size=4),
       st.integers(0, 120), st.integers(0, 30))
def test_any_points_fit_the_room(series: list[list[tuple[float, float]]], width: int, height: int) -> None:
    curves = [Series(str(i), sorted(points, key=lambda p: p[0])) for i, points in enumerate(series)]
    drawing = draw(curves, width, height)
    assert len(drawing.rows) in (0, height) and all(len(row) <= width for row in drawing.rows)


def test_a_score_bar_ends_in_its_interval() -> None:
    assert score_bar(0.5, 0.25, 0.75, 1.0, 9) == "██├─●─┤  "
    assert score_bar(0.0, 0.0, 0.1, 1.0, 11) == "●┤         "
    assert score_bar(0.5, 0.4, 0.6, 1.0, 3) == "" and score_bar(0.0, 0.0, 0.0, 0.0, 20) == ""


def test_a_difference_shows_zero() -> None:
    assert difference_bar(0.2, 0.1, 0.3, -0.4, 0.4, 9) == "    │├●┤ "
    assert difference_bar(0.0, -0.2, 0.2, -0.4, 0.4, 9) == "  ├─●─┤  "
    assert difference_bar(0.1, -0.2, 0.2, -0.4, 0.4, 9) == "  ├─┼●┤  "


def test_a_scale_is_a_whole_tenth() -> None:
    assert [scale_of([0.07]), scale_of([0.4, 0.12]), scale_of([0.97]), scale_of([])] == [0.1, 0.4, 1.0, 1.0]
