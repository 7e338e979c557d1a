"""A TOML text to read and to edit. A text that a terminal cannot show as it is can only be read, made visible."""

from __future__ import annotations

import re
from collections.abc import Iterable

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from localdistill import key_of, parts_of
from tui.text import joined, safe, shown
from tui.widgets.facts import MUTED
from tui.widgets.fields import without

LONGEST_EDITED = 100_000
"""Characters of a text that is edited; a longer one is only shown."""
LONGEST_LINE = 4000
LONGEST_SHOWN = 50_000


class TomlText(TextArea, inherit_bindings=False):
    """The recipe as TOML; what is typed here shows in the form at once."""

    BINDINGS = without(TextArea.BINDINGS, "ctrl+k")


class TomlPane(Vertical):
    """A text, in a box that edits it or in one that only shows it."""

    DEFAULT_CSS = """
    TomlPane TomlText { height: 1fr; padding: 0; }
    TomlPane VerticalScroll { scrollbar-size-vertical: 1; }
    """

    class TextChanged(Message):
        """Somebody typed. What stands there now is `text`: when this arrives, more may have been typed."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""

    def compose(self) -> Iterable[Widget]:
        """Both boxes; one is shown."""
        yield TomlText(compact=True)
        with VerticalScroll():
            yield Static(id="raw")

    @property
    def text(self) -> str:
        """What stands there."""
        area = self.query_one(TomlText)
        return area.text if area.display else self._text

    def show(self, text: str) -> None:
        """Show this text; the place one looks at stays."""
        self._text = text
        area = self.query_one(TomlText)
        area.display = is_editable(text)
        self.query_one(VerticalScroll).display = not area.display
        if not area.display:
            self.query_one("#raw", Static).update(joined(
                shown("It holds what a terminal cannot show as it is, or very long lines: change it in an editor.\n\n",
                      "$warning"), toml(text)))
        elif area.text != text:
            at = area.scroll_offset
            area.load_text(text)
            area.scroll_to(at.x, at.y, animate=False)

    def show_line(self, row: int) -> None:
        """Bring a line into view."""
        area = self.query_one(TomlText)
        if area.display and not area.has_focus:
            area.move_cursor((row, 0))
            area.scroll_to(0, max(0, area.wrapped_document.location_to_offset((row, 0)).y - 2), animate=False)

    def enter(self) -> None:
        """Give the text the focus."""
        area = self.query_one(TomlText)
        (area if area.display else self.query_one(VerticalScroll)).focus()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Tell what was typed."""
        event.stop()
        if event.text_area.text != self._text:
            self._text = event.text_area.text
            self.post_message(self.TextChanged())


def is_editable(text: str) -> bool:
    """True when the text can stand in a box as it is."""
    return (len(text) <= LONGEST_EDITED and safe(text) == text
            and max(map(len, text.split("\n"))) <= LONGEST_LINE)


def toml(text: str) -> Content:
    """TOML with comments muted and headers bold, safe to show."""
    rows = []
    for row in safe(text, LONGEST_SHOWN).split("\n"):
        begin = row.lstrip()
        rows.append(shown(row + "\n", MUTED if begin.startswith("#") else "bold" if begin.startswith("[") else ""))
    return joined(*rows)


def line_of(text: str, key: str) -> int | None:
    """The line on which the section `key` (`grade.1`) begins; None when it has no header of its own."""
    if not key:
        return 0
    *_, last = parts = parts_of(key)
    name = key_of(*(part for part in parts if not part.isdigit()))
    header = re.compile(rf"^\s*\[\[?\s*{re.escape(name)}\s*\]\]?")
    found = [row for row, said in enumerate(text.split("\n")) if header.match(said)]
    number = int(last) if last.isdigit() else 0
    return found[number] if number < len(found) else None
