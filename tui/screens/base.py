"""What every screen is made of: a line on top that says where one is and what runs, the screen's own body, and the keys
at the bottom. A screen is told of a new state by `show`; it never asks for one in a loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.commands import Command
from tui.menu import MENU
from tui.state import AppState, RunView
from tui.text import joined, line, shown
from tui.ui import Ui, Wanted, ui_of
from tui.widgets.drawn import Drawn
from tui.widgets.keys import Keys

SMALLEST = (40, 12)
"""Columns and lines below which a screen shows nothing but that."""


class TopLine(Static):
    """Where one is, and the run that is followed."""

    def show(self, title: str, state: AppState, workspace: str) -> None:
        """Draw the line."""
        self.update(joined(shown(" localdistill ", "bold $text on $primary"), shown(f" {title} ", "bold"),
                           shown(f" {workspace}  ", "$foreground-muted"), run_chip(state.watched)), layout=False)


class Menu(Drawn):
    """The screens and their keys, the one titled `here` marked; short names where the screen is narrow, keys alone
    where it is very narrow."""

    def __init__(self, here: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._here = here

    def drawn(self, width: int) -> Content:
        """One line."""
        wide, tight = width >= sum(len(e.title) + 4 for e in MENU), width < sum(len(e.short) + 3 for e in MENU)
        gap = "  " if wide else " "
        parts: list[Content] = []
        for entry in MENU:
            title = entry.title if wide or entry.title == self._here else "" if tight else entry.short
            if not title:
                parts.append(shown(f"{entry.key} ", "$accent"))
                continue
            parts += [shown(f"{entry.key} ", "$accent"),
                      shown(title, "bold reverse" if entry.title == self._here else "$foreground-muted"),
                      shown(gap)]
        return joined(*parts)


def run_chip(view: RunView | None) -> Content:
    """One run in a few words: state, stage, how far."""
    if view is None:
        return Content("")
    styles = {"running": "$success", "starting": "$success", "finished": "$foreground-muted", "failed": "$error",
              "paused": "$warning", "partial": "$warning", "interrupted": "$warning", "cancelled": "$warning"}
    far = f" {100 * view.done / view.total:.0f} %" if view.is_alive and view.total else ""
    stage = f" {line(view.stage)}" if view.is_alive else ""
    return shown(f"● {line(view.run_id)} {view.state}{stage}{far}", styles.get(view.state, ""))


class Page(Screen[None]):
    """One screen of the menu."""

    TITLE: ClassVar[str] = ""
    ACTIONS: ClassVar[tuple[Command, ...]] = ()
    """What can be done here, beside what can be done everywhere."""
    HELP: ClassVar[str] = ""
    """What this screen is for, in a few sentences, for F1."""

    def __init_subclass__(cls) -> None:
        """The keys of a screen are those of its actions."""
        own: list[BindingType] = [
            Binding(c.key, c.action.removeprefix("screen."), c.label, show=c.in_footer, id=c.id)
            for c in cls.ACTIONS if c.key]
        cls.BINDINGS = [*cls.__dict__.get("BINDINGS", ()), *own]
        super().__init_subclass__()

    @property
    def ui(self) -> Ui:
        """The app."""
        return ui_of(self)

    def compose(self) -> ComposeResult:
        """The frame around `body`."""
        yield TopLine(id="top")
        yield Menu(self.TITLE, id="menu")
        with Vertical(id="body"):
            yield from self.body()
        yield Keys()
        yield Static(id="too-small")

    def body(self) -> Iterable[Widget]:
        """The widgets of this screen."""
        raise NotImplementedError

    def came(self, what: Wanted) -> None:
        """Somebody goes here to see `what`; told before the screen is in front. A screen that can show something in
        particular says how."""
        if what:
            raise ValueError(f"{self.TITLE} cannot be asked to show {', '.join(what)}")

    def on_resize(self) -> None:
        """A window in which nothing could be read says so, and how large it has to be."""
        is_small = self.size.width < SMALLEST[0] or self.size.height < SMALLEST[1]
        self.set_class(is_small, "-too-small")
        if is_small:
            self.query_one("#too-small", Static).update(shown(
                f"{self.size.width}x{self.size.height}: too small\nuse 60x20 or more\nruns go on\nctrl+q leaves"))

    def on_screen_resume(self) -> None:
        """The screen came to the front."""
        self.take(self.ui.state)

    def take(self, state: AppState) -> None:
        """A new state, told by the app."""
        if self.is_mounted:
            self.query_one(TopLine).show(self.TITLE, state, line(self.ui.workspace.root.name or "/"))
            self.show(state)

    def show(self, state: AppState) -> None:
        """Draw what changed."""
