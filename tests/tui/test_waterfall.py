from __future__ import annotations

from dataclasses import replace

from localdistill import FilterStep, Member, Waterfall
from tui.widgets.waterfall import option_text, waterfall_rows


def steps(*removed: int | None) -> tuple[FilterStep, ...]:
    return tuple(FilterStep(use, (), count, True) for use, count in zip(("verified", "length"), removed))


FILTERS = (Member(use="verified"), Member(use="length"))
STORED = Waterfall("run-1", "teacher", FILTERS, "mine", 100, steps(30, 10), 60)


def texts(rows: list) -> list[list[str]]:  # type: ignore[type-arg]
    return [[text for text, _ in row] for row in rows]


def test_what_is_left_goes_down_filter_by_filter() -> None:
    rows, lines = waterfall_rows(STORED, FILTERS, frozenset(), STORED)
    assert [row[:3] for row in texts(rows)] == [
        ["collected", "", "100"], ["● verified", "-30", "70"], ["● length", "-10", "60"], ["kept", "", "60"]]
    assert [line.place for line in lines] == [-1, 0, 1, -1]


def test_a_filter_that_is_off_removes_nothing_and_says_what_it_removed_before() -> None:
    tried = replace(STORED, filters=FILTERS[1:], steps=(FilterStep("length", (), 25, True),), kept=75)
    rows, _ = waterfall_rows(STORED, FILTERS, frozenset({0}), tried)
    assert [row[:4] for row in texts(rows)] == [
        ["collected", "", "100", ""], ["○ verified (off)", "", "", "-30"], ["● length", "-25", "75", "-10"],
        ["kept", "", "75", "60"]]


def test_what_was_not_counted_is_said_to_be_unknown() -> None:
    tried = replace(STORED, steps=steps(30, None), kept=None)
    rows, _ = waterfall_rows(STORED, FILTERS, frozenset(), tried)
    assert [row[:3] for row in texts(rows)][2:] == [["● length", "?", "?"], ["kept", "", "?"]]
    assert all(row[2] == "?" for row in texts(waterfall_rows(STORED, FILTERS, frozenset(), None)[0])[1:])


def test_values_look_as_in_a_recipe() -> None:
    assert [option_text(value) for value in (True, 1.5, ["a", 2], "x")] == ["true", "1.5", '["a", 2]', "x"]
