"""How long the rows of datasets are, against the longest that a student takes: a histogram of eighth blocks per
dataset, all on one scale, with the limit drawn in. What counts and draws are pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from tui.text import joined, line, shown
from tui.widgets.drawn import Drawn

_EIGHTHS = " ▁▂▃▄▅▆▇█"
TALL_LINES = 4
NARROWEST = 20


@dataclass(frozen=True)
class Lengths:
    """One dataset: a name, a few words about it, its rows' lengths in ascending order."""

    name: str
    facts: str
    values: Sequence[int]


def counted(values: Sequence[int], bins: int, top: int) -> list[int]:
    """How many of `values` fall into each of `bins` equal parts of 0..top; larger ones count in the last."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, value * bins // max(1, top))] += 1
    return counts


def chart(counts: Sequence[int], height: int) -> list[str]:
    """`height` lines of eighth blocks, the upper one first. A bin that is not empty is always seen."""
    most = max(counts, default=0) or 1
    eighths = [max(1, round(count / most * height * 8)) if count else 0 for count in counts]
    return ["".join(_EIGHTHS[max(0, min(8, filled - 8 * row))] for filled in eighths)
            for row in range(height - 1, -1, -1)]


def axis(width: int, top: int, limit: int) -> str:
    """The line below a chart: 0 on the left, the limit where it is, the greatest length on the right."""
    place = min(width - 1, limit * width // max(1, top)) if limit else width - 1
    cells = ["─"] * width
    if limit:
        cells[place] = "┤"
    return "".join(cells)


class Histogram(Drawn):
    """Lengths of some datasets, one below the other."""

    DEFAULT_CSS = "Histogram { text-wrap: nowrap; text-overflow: ellipsis; }"

    _shows: tuple[Sequence[Lengths], int, bool] = ((), 0, False)
    _problem = ""

    def show(self, datasets: Sequence[Lengths], limit: int, tall: bool) -> None:
        """Draw; `limit` 0 draws none. `tall` gives each chart several lines below its name, else it stands beside."""
        self._shows, self._problem = (datasets, limit, tall), ""
        self.redraw()

    def fail(self, problem: str) -> None:
        """Say in place of charts why there are none."""
        self._shows, self._problem = ((), 0, False), problem
        self.redraw()

    def drawn(self, width: int) -> Content:
        """Charts as wide as there is room."""
        if self._problem:
            return shown(f"✗ {line(self._problem)}", "$text-error")
        datasets, limit, tall = self._shows
        room = max(NARROWEST, width - 1)
        label = min(24, max((len(line(data.name)) for data in datasets), default=0))
        longest = max((len(line(data.facts)) for data in datasets), default=0)
        width = room if tall else max(NARROWEST, room - label - longest - 3)
        top = max([limit, *(data.values[-1] for data in datasets if data.values)], default=1)
        parts: list[Content] = []
        for data in datasets:
            over = sum(value > limit for value in data.values) if limit else 0
            facts = joined(shown(line(data.facts), "$foreground-muted"),
                           shown(f"  ✗ {over:,} longer than {limit:,}" if over else "", "$text-error"), shown("\n"))
            counts = counted(data.values, width, top)
            if tall:
                parts += [shown(f"{line(data.name)}  ", "bold"), facts]
                parts += [shown(f"{row}\n", "$primary") for row in chart(counts, TALL_LINES)]
            else:
                parts += [shown(f"{line(data.name)[:label]:<{label}} ", "bold"),
                          shown(chart(counts, 1)[0], "$primary"), shown(" "), facts]
        if datasets:
            words = f"to {top:,} tokens" + (f", ┤ limit {limit:,}" if limit else "")
            indent = "" if tall else " " * (label + 1)
            parts.append(shown(f"{indent}{axis(width, top, limit)}", "$foreground-muted"))
            parts.append(shown(("\n" if tall else " ") + words, "$foreground-muted"))
        return joined(*parts)
