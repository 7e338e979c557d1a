"""A table over any number of rows that draws only the lines in sight: rows come from a provider that never waits, and a
row that is not here yet is a placeholder until it is. Every cell passes through `line` before it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.text import line, safe

Cell = tuple[str, str]
"""Text, and the kind it is drawn as: empty, `good`, `bad`, `warn`, `muted` or `strong`."""
KINDS = ("good", "bad", "warn", "muted", "strong")
_STRIPS_KEPT = 1000


@dataclass(frozen=True)
class Column:
    """One column."""

    title: str
    width: int
    """Cells; 0 takes what the others leave."""
    right: bool = False
    from_width: int = 0
    """Shown only where the table is at least this wide."""


class RowSource(Protocol):
    """Where rows come from. Nothing here may wait."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    def cells(self, index: int) -> Sequence[Cell] | None:
        """The cells of a row, one per column; None while they are not here."""

    def seen(self, first: int, last: int) -> None:
        """These rows are in sight: fetch what is missing and call `PagedTable.arrived` when it is there."""


class ListRows:
    """Rows that are all here."""

    def __init__(self, rows: Sequence[Sequence[Cell]] = ()) -> None:
        self._rows = rows

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def cells(self, index: int) -> Sequence[Cell] | None:
        """The cells of a row."""
        return self._rows[index]

    def seen(self, first: int, last: int) -> None:
        """Nothing is missing."""


class PagedTable(ScrollView, can_focus=True):
    """Rows to walk through: arrows, page up and down, home and end; enter opens one."""

    DEFAULT_CSS = """
    PagedTable { height: 1fr; overflow-x: hidden; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
        scrollbar-color: $primary; }
    PagedTable > .paged-table--head { text-style: bold; color: $foreground-muted; background: $panel; }
    PagedTable > .paged-table--cursor { background: $block-cursor-blurred-background;
        color: $block-cursor-blurred-foreground; text-style: $block-cursor-blurred-text-style; }
    PagedTable:focus > .paged-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground;
        text-style: $block-cursor-text-style; }
    PagedTable > .paged-table--row { color: $foreground; }
    PagedTable > .paged-table--good { color: $text-success; }
    PagedTable > .paged-table--bad { color: $text-error; }
    PagedTable > .paged-table--warn { color: $text-warning; }
    PagedTable > .paged-table--muted { color: $foreground-muted; }
    PagedTable > .paged-table--strong { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"paged-table--head", "paged-table--cursor", "paged-table--row",
                                             *(f"paged-table--{kind}" for kind in KINDS)}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", show=False),
        Binding("home,g", "jump(0)", "first", show=False),
        Binding("end,G", "jump(-1)", "last", show=False),
        Binding("enter", "choose", "open", show=False),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)
    """The row that keys speak of."""

    class RowSelected(Message):
        """A row was opened."""

        def __init__(self, table: PagedTable, index: int) -> None:
            super().__init__()
            self.table, self.index = table, index

        @property
        def control(self) -> PagedTable:
            """The table."""
            return self.table

    class Moved(RowSelected):
        """The cursor stands on another row."""

    def __init__(self, columns: Sequence[Column], id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._rows: RowSource = ListRows()
        self._strips: dict[tuple[int, bool], Strip] = {}
        self._layout: list[tuple[Column, int, int]] = []

    # ---- what is shown

    def show(self, rows: RowSource, cursor: int = 0) -> None:
        """Show other rows."""
        self._rows = rows
        self.arrived()
        self.cursor = max(0, min(cursor, rows.count - 1))
        self._follow(self.cursor)

    def arrived(self) -> None:
        """Rows came, or there are more of them: draw again."""
        self._strips.clear()
        self.virtual_size = Size(self.size.width, self._rows.count + 1)
        self.refresh()
        self._report()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._rows.count

    @property
    def rows_in_sight(self) -> int:
        """Lines below the head."""
        return max(1, self.scrollable_content_region.height - 1)

    def _report(self) -> None:
        if self._rows.count and self.size.height:
            first = min(round(self.scroll_y), self._rows.count - 1)
            self._rows.seen(first, min(first + self.rows_in_sight, self._rows.count) - 1)

    # ---- moving

    def validate_cursor(self, cursor: int) -> int:
        """The cursor stays inside."""
        return max(0, min(cursor, self._rows.count - 1))

    def watch_cursor(self, before: int, now: int) -> None:
        """Two lines change, and the view follows."""
        for row in (before, now):
            self.refresh(Region(0, 1 + row - round(self.scroll_y), self.size.width, 1))
        self._follow(now)
        if self._rows.count:
            self.post_message(self.Moved(self, now))

    def _follow(self, row: int) -> None:
        top, height = round(self.scroll_y), self.rows_in_sight
        if row < top:
            self.scroll_to(y=row, animate=False, force=True)
        elif row >= top + height:
            self.scroll_to(y=row - height + 1, animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are in sight."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._report()

    def on_resize(self, event: Resize) -> None:
        """Columns are laid out again."""
        self._layout = []
        self.arrived()
        self.call_after_refresh(self._follow, self.cursor)

    def action_move(self, by: int) -> None:
        """Up or down."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """A page up or down."""
        self.cursor += by * max(1, self.rows_in_sight - 1)

    def action_jump(self, row: int) -> None:
        """To the first or the last row."""
        self.cursor = row if row >= 0 else self._rows.count + row

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self._rows.count:
            self.post_message(self.RowSelected(self, self.cursor))

    def on_click(self, event: Click) -> None:
        """A click moves the cursor, a second one opens."""
        row = event.y - self.gutter.top - 1 + round(self.scroll_y)
        if 0 <= row < self._rows.count and event.y > self.gutter.top:
            opens = row == self.cursor and event.chain > 1
            self.cursor = row
            if opens:
                self.action_choose()

    # ---- drawing

    def notify_style_update(self) -> None:
        """Another theme."""
        self._strips.clear()
        super().notify_style_update()

    def watch_has_focus(self, has_focus: bool) -> None:
        """The cursor looks different with the focus."""
        self._strips.clear()
        super().watch_has_focus(has_focus)

    def render_line(self, y: int) -> Strip:
        """The head, or the row on this line."""
        width = self.scrollable_content_region.width
        if not self._layout:
            self._layout = laid_out(self._columns, width)
        if y == 0:
            titles = [(column.title, "") for column in self._columns]
            return self._strip(" ", titles, self.get_component_rich_style("paged-table--head"), width)
        index = y - 1 + round(self.scroll_y)
        if index >= self._rows.count:
            return Strip.blank(width, self.get_component_rich_style("paged-table--row"))
        at_cursor = index == self.cursor
        found = self._strips.get((index, at_cursor))
        if found is None:
            if len(self._strips) > _STRIPS_KEPT:
                self._strips.clear()
            found = self._strips[index, at_cursor] = self._row_strip(index, at_cursor, width)
        return found

    def _row_strip(self, index: int, at_cursor: bool, width: int) -> Strip:
        base = self.get_component_rich_style("paged-table--cursor" if at_cursor else "paged-table--row")
        cells = self._rows.cells(index)
        if cells is None:
            cells = [("·" * min(column.width or 24, 24), "muted") for column in self._columns]
        return self._strip("›" if at_cursor else " ", cells, base, width, at_cursor)

    def _strip(self, mark: str, cells: Sequence[Cell], base: Style, width: int, plain: bool = False) -> Strip:
        segments = [Segment(safe(mark), base)]
        for column, place, room in self._layout:
            text, kind = cells[place]
            style = self.get_component_rich_style(f"paged-table--{kind}") if kind in KINDS and not plain else base
            segments.append(Segment(fitted(line(text, max(8, 4 * room)), room, column.right), style))
            segments.append(Segment(" ", base))
        return Strip(segments).adjust_cell_length(width, base)


def laid_out(columns: Sequence[Column], width: int) -> list[tuple[Column, int, int]]:
    """(column, place, cells) of the columns that fit into `width`; those without a width share what is left."""
    shown = [(column, place) for place, column in enumerate(columns) if width >= column.from_width]
    left = width - 1 - sum(column.width + 1 for column, _ in shown)
    flexible = max(1, sum(column.width == 0 for column, _ in shown))
    return [(column, place, column.width or max(4, left // flexible)) for column, place in shown]


def fitted(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells; what is cut ends with an ellipsis."""
    if text.isascii():
        if len(text) > width:
            return text[: max(0, width - 1)] + "…"
        return text.rjust(width) if right else text.ljust(width)
    strip = Strip([Segment(safe(text))])
    length = strip.cell_length
    if length > width:
        cut = strip.crop(0, max(0, width - 1)).text
        return cut + "…" + " " * (width - 1 - cell_len(cut))
    return " " * (width - length) + text if right else text + " " * (width - length)


