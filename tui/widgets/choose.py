"""A window to pick one thing from a list, or to type another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.text import joined, line, shown
from tui.widgets.dialogs import Dialog


class Choose(Dialog[None]):
    """Enter takes what is marked or typed, tab goes from the list to the line, escape leaves."""

    DEFAULT_CSS = """
    Choose OptionList { height: auto; max-height: 12; border: none; padding: 0; background: transparent; }
    Choose Input { margin-top: 1; }
    """

    def __init__(self, title: str, choices: Sequence[tuple[str, str, str]], taken: Callable[[str], None], *,
                 typed: str = "", note: str = "") -> None:
        """choices: (value, name, remark). typed: what may be typed instead; empty: nothing. note: a last word."""
        super().__init__()
        self._title, self._choices, self._taken = title, list(choices), taken
        self._typed, self._note = typed, note

    def compose(self) -> ComposeResult:
        """The list, the line and the note."""
        width = max((len(line(name)) for _, name, _ in self._choices), default=0)
        with Vertical():
            yield Static(shown(self._title + "\n", "bold"))
            if self._choices:
                yield OptionList(*(Option(joined(shown(f"{line(name):<{width}}  "),
                                                 shown(line(remark, 120), "$foreground-muted")))
                                   for _, name, remark in self._choices), id="choices", markup=False)
            if self._typed:
                yield Input(placeholder=line(self._typed), id="typed")
            if self._note:
                yield Static(shown("\n" + self._note, "$foreground-muted"))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take it."""
        self._take(self._choices[event.option_index][0])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed."""
        if event.value.strip():
            self._take(event.value.strip())

    def _take(self, value: str) -> None:
        self.dismiss(None)
        self._taken(value)
