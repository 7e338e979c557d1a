"""Curves in braille: several series over one pair of axes. `draw` is a pure function from points to rows of text, so it
is tested without a screen; the widget only colours what it says. Series are told apart by a letter on the curve and in
the legend, so that colour is never needed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from textual.content import Content
from textual.widget import Widget

from tui.text import joined, line, shown

T = TypeVar("T")
Points = Sequence[tuple[float, float]]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = ("$primary", "$success", "$warning", "$error", "$foreground", "$primary-lighten-3")
LARGEST = 1e100
MANY = 400
"""Points from which on the axis grows in steps, so that not every new point moves all curves."""
MANY_EVERY_S = 0.5
"""How often a chart of so many points is drawn: keys come first."""
BROKEN = "×"
"""Marks a step whose value is not a finite number."""
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_AXIS = -1


@dataclass(frozen=True)
class Series:
    """One series: its name and (x, y) points in the order of x."""

    name: str
    points: Points


@dataclass
class PlotCell:
    """One character of the plot, and the series it belongs to (-1: the axes)."""

    text: str = " "
    series: int = _AXIS


@dataclass
class Drawing:
    """Rows of cells."""

    rows: list[list[PlotCell]] = field(default_factory=list)

    def text(self) -> list[str]:
        """The rows as plain text."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.rows]


def is_drawable(value: float) -> bool:
    """A number that has a place on an axis; what no axis can hold is marked like what is no number."""
    return -LARGEST < value < LARGEST


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `most` parts."""
    if not (span > 0 and math.isfinite(span)) or most < 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in (1, 2, 5, 10, 20) if span / (step * power) <= most * (1 + 1e-9))


def ticks(low: float, high: float, most: int) -> list[float]:
    """Nice numbers from `low` to `high`, at most `most` + 1 of them."""
    step = nice_step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float, step: float) -> str:
    """`value` with as many digits as `step` has."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(step) < 1e-4:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


@dataclass(frozen=True)
class Extent:
    """Where the points of one series lie; `low` and `high` are None when no value is drawable."""

    left: float
    right: float
    low: float | None
    high: float | None
    broken: tuple[float, ...]
    """Where values are not drawable."""


PlotColumn = tuple[int, float, float, float, float]
"""What one column of dots shows: its place, and the first, least, greatest and last value in it."""
MOST_KEPT = 64
_kept: dict[tuple[object, ...], tuple[Points, Any]] = {}


def _once(points: Points, key: tuple[object, ...], make: Callable[[], T]) -> T:
    """`make()`, kept for as long as the same points are drawn: curves that are done are not gone through again."""
    if not isinstance(points, tuple):
        return make()
    whole = (id(points), *key)
    if whole not in _kept:
        while len(_kept) >= MOST_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[whole] = points, make()
    value: T = _kept[whole][1]
    return value


def extent(points: Points) -> Extent | None:
    """The extent of a series; None when it is empty."""
    if not points:
        return None
    xs = [x for x, _ in points]
    values = [y for _, y in points if -LARGEST < y < LARGEST]
    broken = tuple(x for x, y in points if not is_drawable(y)) if len(values) < len(points) else ()
    return Extent(min(xs), max(xs), min(values, default=None), max(values, default=None), broken)


def reduced(points: Points, low: float, high: float, columns: int) -> list[list[PlotColumn]]:
    """The columns that have drawable points, in pieces where they are broken. However many points there are, what
    stands out in one column is kept."""
    pieces: list[list[PlotColumn]] = []
    scale = (columns - 1) / (high - low) if high > low else 0.0
    goes_on = False
    for x, y in points:
        if not -LARGEST < y < LARGEST:
            goes_on = False
            continue
        column = round((x - low) * scale)
        if not goes_on:
            pieces.append([(column, y, y, y, y)])
            goes_on = True
        elif pieces[-1][-1][0] == column:
            _, first, least, most, _ = pieces[-1][-1]
            pieces[-1][-1] = (column, first, min(least, y), max(most, y), y)
        else:
            pieces[-1].append((column, y, y, y, y))
    return pieces


def draw(lines: Sequence[Series], width: int, height: int) -> Drawing:
    """The chart in `width` x `height` cells. Too little room, or no point at all: an empty drawing."""
    extents = [_once(series.points, ("extent",), partial(extent, series.points)) for series in lines]
    ends = [(e.low, e.high) for e in extents if e and e.low is not None and e.high is not None]
    if not ends or width < 16 or height < 4:
        return Drawing()
    left, right = min(e.left for e in extents if e), max(e.right for e in extents if e)
    if max(len(series.points) for series in lines) > MANY:
        grid = nice_step(right - left, 20)
        right = left + math.ceil((right - left) / grid - 1e-9) * grid
    bottom, top = _limits(min(low for low, _ in ends), max(high for _, high in ends))
    marks = ticks(bottom, top, max(2, (height - 2) // 3))
    step = nice_step(top - bottom, max(2, (height - 2) // 3))
    labels = {y: number(y, step) for y in marks}
    margin = max(map(len, labels.values()), default=0) + 1
    columns, rows = width - margin - 1, height - 2
    plot = _Plot(columns, rows, left, right, bottom, top)
    curves = [_once(series.points, (left, right, columns),
                    partial(reduced, series.points, left, right, 2 * columns)) for series in lines]
    for index, pieces in enumerate(curves):
        plot.curve(index, pieces)
    for index, (pieces, its) in enumerate(zip(curves, extents, strict=True)):
        plot.letter(index, len(lines), pieces)
        plot.broken(index, its.broken if its else ())
    drawing = Drawing()
    at = {plot.row_of(y): text for y, text in labels.items()}
    for row in range(rows):
        head = f"{at.get(row, ''):>{margin - 1}} {'┤' if row in at else '│'}"
        drawing.rows.append([*map(PlotCell, head), *plot.cells[row]])
    drawing.rows += _x_axis(left, right, columns, margin)
    return drawing


def _limits(low: float, high: float) -> tuple[float, float]:
    """A little more than the values need; a flat curve lies in the middle."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = abs(high) * 0.1 or 1.0
        return low - room, high + room
    room = 0.03 * (high - low)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _x_axis(left: float, right: float, columns: int, margin: int) -> list[list[PlotCell]]:
    marks = ticks(left, right, max(1, columns // 10)) or [left]
    step = nice_step(right - left, max(1, columns // 10))
    axis, labels = ["─"] * columns, [" "] * columns
    taken = -1
    for x in marks:
        column = round((x - left) / (right - left) * (2 * columns - 1)) // 2 if right > left else 0
        text = number(x, max(step, 1.0))
        start = max(0, min(columns - len(text), column - len(text) // 2))
        if start > taken:
            axis[column] = "┴"
            labels[start:start + len(text)] = text
            taken = start + len(text)
    pad = " " * margin
    return [[*map(PlotCell, f"{pad}└{''.join(axis)}")], [*map(PlotCell, f"{pad} {''.join(labels)}")]]


class _Plot:
    """The area inside the axes: two by four dots per cell."""

    def __init__(self, columns: int, rows: int, left: float, right: float, bottom: float, top: float) -> None:
        self.columns, self.rows = columns, rows
        self.left, self.right, self.bottom, self.top = left, right, bottom, top
        self.cells = [[PlotCell() for _ in range(columns)] for _ in range(rows)]
        self._bits = [[0] * columns for _ in range(rows)]

    def y_dot(self, y: float) -> int:
        """The dot row of a value, 0 at the top."""
        dots = 4 * self.rows - 1
        return max(0, min(dots, round((self.top - y) / (self.top - self.bottom) * dots)))

    def row_of(self, y: float) -> int:
        """The cell row of a value."""
        return self.y_dot(y) // 4

    def x_dot(self, x: float) -> int:
        """The dot column of a value."""
        span = self.right - self.left
        return round((x - self.left) / span * (2 * self.columns - 1)) if span > 0 else 0

    def curve(self, series: int, pieces: Sequence[Sequence[PlotColumn]]) -> None:
        """Draw one series."""
        for piece in pieces:
            before: tuple[int, int, int, int] | None = None
            for column, first, least, most, last in piece:
                high, low = self.y_dot(most), self.y_dot(least)
                if before is not None and column - before[0] == 1:
                    # Neighbours touch: the new column reaches to where the one before it ends.
                    high, low = min(high, before[2]), max(low, before[1])
                elif before is not None:
                    self._slope(series, before[0], before[3], column, self.y_dot(first))
                self._upright(series, column, high, low)
                before = column, self.y_dot(most), self.y_dot(least), self.y_dot(last)

    def _upright(self, series: int, x: int, high: int, low: int) -> None:
        """All dots of one column of dots from `high` down to `low`."""
        dots, column = _DOTS[x % 2], x // 2
        for row in range(high // 4, low // 4 + 1):
            mask = sum(dots[max(high - 4 * row, 0):low - 4 * row + 1])
            bits = self._bits[row][column] = self._bits[row][column] | mask
            cell = self.cells[row][column]
            cell.text, cell.series = chr(0x2800 + bits), series

    def _slope(self, series: int, x0: int, y0: int, x1: int, y1: int) -> None:
        """A straight line between columns with nothing in between."""
        for x in range(x0, x1):
            begin, end = (y0 + round((y1 - y0) * (at - x0) / (x1 - x0)) for at in (x, x + 1))
            self._upright(series, x, min(begin, end), max(begin, end))

    def letter(self, series: int, count: int, pieces: Sequence[Sequence[PlotColumn]]) -> None:
        """Write the letter of a series on its curve: at a place of its own, and at its end."""
        places = [(place, last) for piece in pieces for place, _, _, _, last in piece]
        if not places or count < 2:
            return
        middle = places[min(len(places) - 1, len(places) * (series + 1) // (count + 1))]
        for x, y in (middle, places[-1]):
            column = x // 2
            for row in _near(self.row_of(y), self.rows):
                if not self.cells[row][column].text.isalpha():
                    self.cells[row][column] = PlotCell(LETTERS[series % len(LETTERS)], series)
                    break

    def broken(self, series: int, places: Sequence[float]) -> None:
        """Mark the steps without a drawable value on the lowest line."""
        for x in places:
            self.cells[-1][self.x_dot(x) // 2] = PlotCell(BROKEN, series)


def _near(row: int, rows: int) -> Iterator[int]:
    """`row` and then the rows around it, nearest first."""
    for distance in range(rows):
        for place in dict.fromkeys((row - distance, row + distance)):
            if 0 <= place < rows:
                yield place


class LineChart(Widget):
    """Curves of numbers over steps."""

    DEFAULT_CSS = "LineChart { height: 1fr; min-height: 6; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: tuple[Series, ...] = ()
        self.nothing = "nothing measured yet"
        self._drawn_at = 0.0
        self._waits = False

    def show(self, lines: Sequence[Series], nothing: str = "") -> None:
        """Draw these series; `nothing` is said where there are no points."""
        told = tuple(lines)
        self.nothing = nothing or self.nothing
        if len(told) != len(self.lines) or any(a.name != b.name or a.points is not b.points
                                               for a, b in zip(told, self.lines, strict=True)):
            self.lines = told
            many = max((len(series.points) for series in told), default=0) > MANY
            wait = MANY_EVERY_S - (time.monotonic() - self._drawn_at) if many else 0.0
            if wait <= 0:
                self.refresh()
            elif not self._waits:
                self._waits = True
                self.set_timer(wait, self._draw_again)

    def _draw_again(self) -> None:
        self._waits = False
        self.refresh()

    def render(self) -> Content:
        """The drawing in colours of the theme."""
        self._drawn_at = time.monotonic()
        drawing = draw(self.lines, self.size.width, self.size.height)
        if not drawing.rows:
            return shown(self.nothing, "$foreground-muted")
        return Content("\n").join([_coloured(row) for row in drawing.rows])


def _coloured(row: Sequence[PlotCell]) -> Content:
    parts: list[Content] = []
    start = 0
    for end in range(1, len(row) + 1):
        if end == len(row) or row[end].series != row[start].series:
            text = "".join(cell.text for cell in row[start:end])
            series = row[start].series
            parts.append(shown(text, "$foreground-muted" if series == _AXIS else COLOURS[series % len(COLOURS)]))
            start = end
    return joined(*parts)


def legend(lines: Sequence[Series]) -> Content:
    """Letter, name and newest value of each series, one a line."""
    parts: list[Content] = []
    for index, series in enumerate(lines):
        value = f"{series.points[-1][1]:.4g}" if series.points else "-"
        broken = next((x for x, y in series.points if not is_drawable(y)), None)
        note = "" if broken is None else f"   {BROKEN} not a number at step {broken:,.0f}"
        parts.append(joined(shown(f"{LETTERS[index % len(LETTERS)]} ", f"bold {COLOURS[index % len(COLOURS)]}"),
                            shown(f"{line(series.name, 40)}  {value}{note}")))
    return Content("\n").join(parts)
