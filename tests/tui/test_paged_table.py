from __future__ import annotations

from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult

from tests.tui.driving import piloted
from tests.tui.hostile import HOSTILE, LONG, assert_harmless
from tui.widgets.paged_table import Cell, Column, ListRows, PagedTable, fitted, laid_out

COLUMNS = (Column("number", 9, right=True), Column("text", 0), Column("wide only", 10, from_width=100))


class Million:
    """Rows that are made when asked for; some have not arrived."""

    def __init__(self, count: int = 1_000_000) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []
        self.missing: set[int] = set()

    def cells(self, index: int) -> Sequence[Cell] | None:
        return None if index in self.missing else ((f"{index:,}", ""), (f"row {index}", "good"), ("z", "muted"))

    def seen(self, first: int, last: int) -> None:
        self.asked.append((first, last))


class TableApp(App[None]):
    def __init__(self, rows: object) -> None:
        super().__init__()
        self.rows = rows
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield PagedTable(COLUMNS)

    def on_mount(self) -> None:
        self.table.show(self.rows)  # type: ignore[arg-type]
        self.table.focus()

    @property
    def table(self) -> PagedTable:
        return self.query_one(PagedTable)

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        self.chosen.append(event.index)

    def lines(self) -> list[str]:
        return assert_harmless(self).splitlines()


@piloted
async def test_only_rows_in_sight_are_asked_for_and_keys_reach_both_ends() -> None:
    app = TableApp(Million())
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert "0 row 0" in app.lines()[1] and app.lines()[1].startswith("›")
        await pilot.press("end")
        await pilot.pause()
        assert app.table.cursor == 999_999
        assert "row 999999" in app.lines()[11] and app.lines()[11].startswith("›")
        assert all(last - first < 12 for first, last in app.rows.asked)
        await pilot.press("pageup", "up")
        await pilot.pause()
        assert app.table.cursor == 999_999 - 10 - 1
        await pilot.press("home", "enter")
        await pilot.pause()
        assert app.chosen == [0]
        assert "number" in app.lines()[0]


@piloted
async def test_the_head_stays_and_the_cursor_is_marked_without_colour() -> None:
    app = TableApp(Million(100))
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.press(*["down"] * 30)
        await pilot.pause()
        lines = app.lines()
        assert "text" in lines[0]
        [marked] = [text for text in lines if text.startswith("›")]
        assert "row 30" in marked


@piloted
async def test_rows_that_are_not_here_are_placeholders_until_they_arrive() -> None:
    rows = Million(50)
    rows.missing = {2, 3}
    app = TableApp(rows)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert "···" in app.lines()[3] and "row 2" not in app.lines()[3]
        rows.missing.clear()
        app.table.arrived()
        await pilot.pause()
        assert "row 2" in app.lines()[3]


@piloted
async def test_columns_follow_the_width_on_a_live_resize() -> None:
    app = TableApp(Million(50))
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert "wide only" not in app.lines()[0]
        await pilot.resize_terminal(120, 12)
        await pilot.pause()
        assert "wide only" in app.lines()[0]
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        assert len(app.lines()) == 5


@piloted
async def test_hostile_cells_come_out_harmless_on_one_line_each() -> None:
    app = TableApp(ListRows([(("1", ""), (HOSTILE, "bad"), ("", "")), (("2", ""), (LONG, ""), (HOSTILE, "")),
                             (("3", ""), ("漢字" * 200, ""), ("", "")),
                             (("4", ""), ("[red]markup[/red] [@click=app.quit]run[/]", ""), ("", ""))]))
    async with app.run_test(size=(120, 12)) as pilot:
        await pilot.pause()
        lines = app.lines()
        assert "␛[31mred" in lines[1]
        assert "[red]markup[/red]" in lines[4]
        assert lines[2].lstrip(" 2").startswith("xxxx") and "…" in lines[2]
        assert "漢字" in lines[3]


@piloted
async def test_no_rows_take_keys_and_draw_nothing() -> None:
    app = TableApp(ListRows())
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.press("down", "end", "pageup", "enter")
        await pilot.pause()
        assert app.chosen == []
        assert not any(text.strip() for text in app.lines()[1:])


@piloted
async def test_a_click_moves_and_a_second_one_opens() -> None:
    app = TableApp(Million(50))
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        await pilot.click(PagedTable, offset=(5, 4))
        assert app.table.cursor == 3 and app.chosen == []
        await pilot.click(PagedTable, offset=(5, 4), times=2)
        await pilot.pause()
        assert app.chosen == [3]


@pytest.mark.parametrize(("text", "width", "right", "wanted"), [
    ("abc", 5, False, "abc  "), ("abc", 5, True, "  abc"), ("abcdef", 4, False, "abc…"), ("漢字漢", 4, False, "漢 …"),
    ("漢字", 4, False, "漢字"), ("", 2, False, "  ")])
def test_texts_are_fitted_by_cells(text: str, width: int, right: bool, wanted: str) -> None:
    assert fitted(text, width, right) == wanted


def test_columns_without_a_width_share_what_is_left() -> None:
    layout = laid_out((Column("a", 5), Column("b", 0), Column("c", 0), Column("d", 3, from_width=100)), 50)
    assert [(column.title, room) for column, _, room in layout] == [("a", 5), ("b", 20), ("c", 20)]
