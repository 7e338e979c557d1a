"""The few windows in front of a screen: an error, an explanation, a report, a question before something is spent or
removed, and a choice between ways that all keep everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import LocalDistillError
from tui.commands import Command
from tui.text import joined, line, shown
from tui.ui import Ui, ui_of
from tui.widgets.facts import DIM, Facts

T = TypeVar("T")
MUTED = "$foreground-muted"


class Texts(VerticalScroll):
    """A text that scrolls with the arrow keys when it is longer than its window."""


class Dialog(ModalScreen[T]):
    """A window that escape closes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close", show=False)]
    DEFAULT_CSS = """
    Dialog Texts { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    Dialog > Vertical > Texts { max-height: 60vh; }
    Dialog OptionList { border: none; padding: 0; background: transparent; height: auto; max-height: 50vh;
        scrollbar-size-vertical: 1; }
    Dialog OptionList:focus { border: none; }
    ChoiceDialog OptionList { margin-top: 1; }
    Dialog .keys { height: auto; margin-top: 1; color: $foreground-muted; }
    """

    @property
    def ui(self) -> Ui:
        """The app."""
        return ui_of(self)

    def action_close(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class ErrorDialog(Dialog[None]):
    """What happened and what to do next. What was done before is kept; the text says so."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "close", "close"), Binding("c", "copy", "copy")]

    def __init__(self, message: str, hint: str) -> None:
        super().__init__()
        self.message, self.hint = message, hint

    def compose(self) -> ComposeResult:
        """Two texts and the keys."""
        with Vertical():
            yield Static(shown("This did not work", "bold $error"))
            with Texts():
                yield Static(shown(f"\n{self.message}"))
            if self.hint:
                yield Static(joined(shown("\nNext: ", "bold"), shown(self.hint)))
            yield Static(shown("What was done before is kept.   enter: close   c: copy this text"), classes="keys")

    def action_copy(self) -> None:
        """Copy both texts."""
        self.app.copy_to_clipboard(f"{self.message}\n{self.hint}")


class HelpDialog(Dialog[None]):
    """What a screen is for, what has the focus, and every key."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,f1", "close", "close", show=False)]

    def __init__(self, page: Screen[object], commands: Sequence[Command]) -> None:
        super().__init__()
        self._page, self._commands = page, commands

    def compose(self) -> ComposeResult:
        """The explanation and a table of keys."""
        focused = self._page.focused
        with Vertical(), VerticalScroll():
            yield Static(shown(self._page.TITLE or "", "bold"))
            yield Static(shown(f"{self._page.HELP or ''}\n"))
            if told := _said_of(focused):
                yield Static(joined(shown("In focus: ", "bold"), shown(f"{told}\n")))
            yield Facts((command.key or "·", _command(command)) for command in self._commands)
            yield Static(shown("\nctrl+p or : opens the palette with all of these; escape closes.", MUTED))


def _said_of(widget: Widget | None) -> str:
    """What a widget says of itself, for help; widgets of others say nothing that helps here."""
    if widget is None:
        return ""
    own = type(widget).__doc__ if type(widget).__module__.startswith("tui.") else ""
    return str(widget.tooltip or own or "").split("\n")[0]


def _command(command: Command) -> str:
    parts = [command.title, command.help.rstrip("."), f"localdistill {command.twin}" if command.twin else ""]
    return " · ".join(part for part in parts if part)


class ConfirmDialog(Dialog[bool]):
    """Asked only before money is spent or something is removed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "yes", "yes"), Binding("n", "close", "no")]

    def __init__(self, text: str, yes: Callable[[], None]) -> None:
        super().__init__()
        self._text, self._yes = text, yes

    def compose(self) -> ComposeResult:
        """The question and its keys."""
        with Vertical():
            with Texts():
                yield Static(shown(self._text))
            yield Static(shown("y: yes   n or escape: no"), classes="keys")

    def action_yes(self) -> None:
        """Go on."""
        self.dismiss(True)
        self._yes()


@dataclass(frozen=True)
class Way:
    """One answer that `ChoiceDialog` offers."""

    text: str
    take: Callable[[], None]
    help: str = ""


class ChoiceDialog(Dialog[None]):
    """Several ways to go on; escape takes none and changes nothing."""

    def __init__(self, title: str, text: str, ways: Sequence[Way]) -> None:
        super().__init__()
        self._title, self._text, self._ways = title, text, tuple(ways)

    def compose(self) -> ComposeResult:
        """The text and the list of ways."""
        with Vertical():
            yield Static(shown(self._title, "bold"))
            if self._text:
                with Texts():
                    yield Static(shown(self._text))
            yield OptionList(*(Option(_way(way)) for way in self._ways), id="ways", markup=False)
            yield Static(shown("enter: take it   escape: leave everything as it is"), classes="keys")

    def on_mount(self) -> None:
        """The list has the focus."""
        self.query_one("#ways").focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take this way."""
        self.dismiss(None)
        self._ways[event.option_index].take()


def _way(way: Way) -> Content:
    return joined(shown(line(way.text)), shown(f"\n  {line(way.help)}" if way.help else "", DIM))


class ReportDialog(Dialog[None]):
    """A report of labels and texts. It may open empty and be filled when the work behind it is done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "close", "close", show=False),
                                             Binding("c", "copy", "copy")]

    def __init__(self, title: str, rows: Iterable[tuple[str, str]] = (), waiting: str = "", keys: str = "") -> None:
        """keys: what a subclass does at other keys, in words."""
        super().__init__()
        self._title, self._waiting, self._keys = title, waiting, keys
        self._rows: list[tuple[str, str]] = list(rows)

    def compose(self) -> ComposeResult:
        """The report, or what is being waited for."""
        with Vertical():
            yield Static(shown(self._title, "bold"))
            with Texts(id="report-scroll"):
                yield Static(_waiting(self._waiting), id="report-waiting")
                yield Facts(id="report")
            keys = f"   {self._keys}" if self._keys else ""
            yield Static(shown(f"enter or escape: close   c: copy{keys}"), classes="keys")

    def on_mount(self) -> None:
        """The text scrolls at once."""
        self.query_one("#report-waiting").display = not self._rows
        self.query_one("#report", Facts).show(self._rows)
        self.query_one("#report-scroll").focus()

    def wait(self, text: str) -> None:
        """Say what is being waited for now."""
        for shown_now in self.query("#report-waiting").results(Static):
            shown_now.update(_waiting(text))

    def fill(self, rows: Iterable[tuple[str, str]]) -> None:
        """The report is there. Harmless before the window stands, and after it was closed."""
        self._rows = list(rows)
        # Not `is_mounted`: for a moment `on_mount` has run already and that is not true yet.
        for facts in self.query("#report").results(Facts):
            self.query_one("#report-waiting").display = False
            facts.show(self._rows)

    def fail(self, error: LocalDistillError) -> None:
        """There will be no report; say why in its place."""
        self.fill([*(("✗", text) for text in error.message.splitlines()), ("next", error.hint)])

    def action_copy(self) -> None:
        """Copy the report."""
        self.app.copy_to_clipboard("\n".join(f"{label}: {text}" for label, text in self._rows))


def _waiting(text: str) -> Content:
    return shown(f"\n{text}", MUTED)
