"""Labels and texts in two columns: facts, findings, plans. Long texts wrap below themselves, never below the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from textual.content import Content

from tui.text import joined, line, shown
from tui.widgets.drawn import Drawn

FactRows = list[tuple[str, str]]
"""(label, text)."""
MUTED = "$foreground-muted"
DIM = "dim"
"""Muted text of a list: it stays readable under the cursor in every theme, which a colour of its own does not."""
LONGEST_TEXT = 4000
LONGEST_LABEL = 28
_STYLES = {"✗": "$error", "!": "$warning"}


class Facts(Drawn):
    """Rows of (label, text); a row without a label is a heading, a label that begins with a mark has its colour."""

    def __init__(self, rows: Iterable[tuple[str, str]] = (), *, id: str | None = None, labels: int = 0) -> None:
        """labels: columns that labels take at least, so that neighbours stand in line."""
        super().__init__(id=id)
        self._labels = labels
        self.rows: tuple[tuple[str, str], ...] = tuple(rows)

    def show(self, rows: Iterable[tuple[str, str]]) -> None:
        """Draw these rows."""
        if self.rows != (told := tuple(rows)):
            self.rows = told
            self.redraw()

    def drawn(self, width: int) -> Content:
        """The rows, texts wrapped below themselves."""
        parts: list[Content] = []
        for kind, text in fact_lines(self.rows, width, self._labels):
            parts.append(shown(text, {"label": MUTED, "heading": "bold"}.get(kind, _STYLES.get(kind, ""))))
        return joined(*parts)


def fact_lines(rows: Sequence[tuple[str, str]], width: int, labels: int = 0) -> list[tuple[str, str]]:
    """Pieces of text with what they are (`heading`, `label`, `text`, or the mark of a label), line breaks included."""
    longest = max([labels, *(len(line(label, 60)) for label, _ in rows if label)])
    indent = min(longest, LONGEST_LABEL, max(8, width // 3)) + 2
    pieces: list[tuple[str, str]] = []
    for label, text in rows:
        begin = "\n" if pieces else ""
        if not label:
            pieces.append(("heading", f"{begin}{line(text)}"))
            continue
        name = line(label, 60)
        own_line = len(name) > indent - 2
        body = wrap(line(text, LONGEST_TEXT), max(16, width - indent), break_on_hyphens=False) or [""]
        if own_line:
            name, body = line(label, max(8, width - 2)), ["", *body]
        pieces.append((name[0] if name[:1] in _STYLES else "label", f"{begin}{name}" + " " * (indent - len(name))))
        pieces.append(("text", ("\n" + " " * indent).join(body)))
    return pieces
