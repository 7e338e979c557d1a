"""A command to copy: what it is for, the command itself, and enter, c or a click copies it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.text import joined, safe, shown


class CopyLine(Static, can_focus=True):
    """A command line; enter copies it."""

    DEFAULT_CSS = """
    CopyLine { height: auto; padding: 0 2; }
    CopyLine:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "copy", "copy")]

    def __init__(self, label: str, command: str, copied: str = "") -> None:
        """copied: what the clipboard gets; empty: the command as it is shown."""
        super().__init__(joined(shown(f"{label:<8} ", "$foreground-muted"), shown(command)))
        self.label, self.copied = label, copied or command

    def action_copy(self) -> None:
        """Copy the command."""
        self.app.copy_to_clipboard(copyable(self.copied))
        self.app.notify(safe(f"copied: {self.label}"), markup=False, timeout=2)

    def on_click(self) -> None:
        """Copy the command."""
        self.action_copy()


def copyable(text: str) -> str:
    """`text` as a clipboard can hold it: exact where it has an encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return safe(text)
    return text
