"""The line for a question: enter sends it, and a text of several lines stays one message. A line break inside of it is
shown as a sign, because the line is one line high."""

from __future__ import annotations

import re

from textual import events
from textual.widgets import Input

from tui.text import safe
from tui.ui import ui_of
from tui.widgets.fields import FREE_TEXT

BREAK = "⏎"
_LINE_END = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")


class ChatLine(Input):
    """Enter sends, ctrl+j begins a new line; an enter in the middle of a text that came at once is a new line too, for
    terminals that do not say what is pasted."""

    def __init__(self, placeholder: str, id: str | None = None) -> None:
        super().__init__(placeholder=safe(placeholder), id=id, classes=FREE_TEXT)

    @property
    def message(self) -> str:
        """What is written, with its line breaks."""
        return self.value.replace(BREAK, "\n").strip()

    def on_key(self, event: events.Key) -> None:
        """Tell a new line from the end of the message."""
        if event.key == "ctrl+j" or (event.key == "enter" and ui_of(self).goes_on_after(event)):
            event.stop()
            event.prevent_default()
            self._put(BREAK)

    def on_paste(self, event: events.Paste) -> None:
        """All of it, its lines beside each other."""
        event.stop()
        event.prevent_default()
        self._put(_LINE_END.sub(BREAK, event.text.strip("\r\n")))

    def _put(self, text: str) -> None:
        start, end = sorted(self.selection)
        self.replace(text, start, end)
