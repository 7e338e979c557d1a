"""What a run came to: one sentence, and what would be sensible next; beside them, where there is room, one line per
contestant. Decides nothing: every word and figure is the result's."""

from __future__ import annotations

from textual.content import Content

from localdistill import Result, result_cells, result_head
from tui.text import fitted, joined, line, shown
from tui.widgets.drawn import Drawn

_MUTED = "$foreground-muted"
_MARKS = {"better": ("▲", "$text-success"), "harm": ("▼", "$text-error"), "worse": ("▼", "$text-error"),
          "cannot tell": ("=", "$text-warning"), "not compared": ("!", "$text-warning")}
_NAME = 24


class ResultBox(Drawn):
    """The result of a run."""

    def __init__(self, *, id: str | None = None, rows: bool = False) -> None:
        """rows: contestants have a line each, in place of the next step."""
        super().__init__(id=id)
        self._result: Result | None = None
        self._has_rows = rows

    def show(self, result: Result | None) -> None:
        """Draw this result; nothing where there is none."""
        self.display = result is not None
        if result != self._result:
            self._result = result
            self.redraw()

    def drawn(self, width: int) -> Content:
        """The sentence, the table as far as it fits, or which file to take and the next step."""
        result = self._result
        if result is None:
            return Content("")
        mark, style = _MARKS[result.outcome]
        parts = [shown(f"{mark} ", f"bold {style}"), shown(line(result.sentence, 800), "bold")]
        if self._has_rows:
            return joined(*parts, *(_rows(result, width) if result.rows else ()))
        parts += [shown(f"\n{line(text, 400)}", _MUTED) for text in result.files]
        if result.next is not None:
            parts.append(shown(f"\nnext: {line(result.next.text, 400)}", _MUTED))
            if result.next.command:
                parts.append(shown(f"\n      localdistill {line(result.next.command, 200)}", _MUTED))
        return joined(*parts)


def _rows(result: Result, width: int) -> list[Content]:
    """Columns from the left, as many as there is room for."""
    table = [result_head(result), *(result_cells(result, row) for row in result.rows)]
    widths = [min(_NAME, max(len(row[0]) for row in table))]
    for column in range(1, len(table[0])):
        widths.append(max(len(row[column]) for row in table))
        if sum(widths) + 2 * (len(widths) - 1) > width:
            widths.pop()
            break
    parts = []
    for place, row in enumerate(table):
        cells = [f"{fitted(row[0], widths[0]):<{widths[0]}}",
                 *(f"{fitted(cell, room):>{room}}" for cell, room in zip(row[1:], widths[1:], strict=False))]
        parts.append(shown("\n" + "  ".join(cells), _MUTED if place == 0 else ""))
    return [Content("\n"), *parts]
