"""What a run said, newest at the bottom; it follows the end until somebody scrolls up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget

from tui.state import Said
from tui.text import joined, safe, shown
from tui.widgets.drawn import Drawn

_STYLES = {"error": "bold $error", "warning": "$warning", "stage": "bold", "counts": "", "note": "",
           "artifact": "$foreground-muted"}
_MARKS = {"error": "✗ ", "warning": "! ", "stage": "", "counts": "  ", "artifact": "  + ", "note": "  "}
SHOWN_LINES = 200


class SaidLog(VerticalScroll):
    """Lines of a run. `folds`: of a table only its title is shown, for places where it is not what one came for."""

    def __init__(self, *, folds: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._folds = folds

    def compose(self) -> Iterable[Widget]:
        """One text that grows."""
        yield SaidText(folds=self._folds, id="said")

    def on_mount(self) -> None:
        """The end stays in sight until somebody scrolls."""
        self.anchor()

    def show(self, said: Sequence[Said]) -> None:
        """Draw the last lines."""
        self.query_one(SaidText).show(said[-SHOWN_LINES:])


class SaidText(Drawn):
    """The lines themselves. Sentences wrap below their own beginning; a note with lines of its own is a table, and cut
    where the widget ends, because wrapped it could not be read."""

    _said: tuple[Said, ...] = ()

    def __init__(self, *, folds: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._folds = folds

    def show(self, said: Sequence[Said]) -> None:
        """Draw these."""
        if self._said != (told := tuple(said)):
            self._said = told
            self.redraw()

    def drawn(self, width: int) -> Content:
        """Everything, the newest last."""
        parts = []
        for said in self._said:
            text, is_table = said.text, "\n" in said.text and said.kind in ("note", "counts")
            if is_table and self._folds:
                text, is_table = text.partition("\n")[0] + " …", False
            lines = _lines(_MARKS[said.kind], text, width, wraps=not is_table)
            parts.append(shown("\n".join(lines) + "\n", _STYLES[said.kind]))
            if said.hint:
                parts.append(shown("\n".join(_lines("    next: ", said.hint, width)) + "\n", "$foreground-muted"))
        return joined(*parts)


def _lines(mark: str, text: str, width: int, wraps: bool = True) -> list[str]:
    given = safe(text).splitlines()
    indent, room = " " * len(mark), max(16, width - len(mark))
    if wraps:
        given = [piece for one in given for piece in wrap(one, room, break_on_hyphens=False)]
    cut = [one if len(one) <= room else f"{one[:room - 1]}…" for one in given] or [""]
    return [mark + cut[0], *(indent + one for one in cut[1:])]
