"""What a run said, newest at the bottom; it follows the end until somebody scrolls up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui.state import Said
from tui.text import joined, shown

_STYLES = {"error": "bold $error", "warning": "$warning", "stage": "bold", "counts": "", "note": "",
           "artifact": "$foreground-muted"}
_MARKS = {"error": "✗ ", "warning": "! ", "stage": "", "counts": "  ", "artifact": "  + ", "note": "  "}
SHOWN_LINES = 200


class SaidLog(VerticalScroll):
    """Lines of a run."""

    _said: tuple[Said, ...] = ()

    def compose(self) -> Iterable[Widget]:
        """One text that grows."""
        yield Static(id="said")

    def on_mount(self) -> None:
        """The end stays in sight until somebody scrolls."""
        self.anchor()

    def show(self, said: Sequence[Said]) -> None:
        """Draw the last lines."""
        shown_now = tuple(said[-SHOWN_LINES:])
        if shown_now != self._said:
            self._said = shown_now
            self.query_one("#said", Static).update(joined(*(part for item in shown_now for part in _parts(item))))


def _parts(said: Said) -> list[Content]:
    parts = [shown(f"{_MARKS[said.kind]}{said.text}\n", _STYLES[said.kind])]
    if said.hint:
        parts.append(shown(f"    next: {said.hint}\n", "$foreground-muted"))
    return parts
