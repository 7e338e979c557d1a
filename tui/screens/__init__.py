"""The screens: name -> where it is, its key and its title. They load when they are opened first; none knows another."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.base import Page


@dataclass(frozen=True)
class Place:
    """One screen in the menu."""

    name: str
    title: str
    key: str
    cls: str
    twin: str
    """The command of the command line that shows the same."""
    short: str
    """Its title where there is no room."""

    def load(self) -> type[Page]:
        """The screen's class."""
        page: type[Page] = getattr(import_module(f"tui.screens.{self.name}"), self.cls)
        return page


_ALL = (
    Place("home", "Home", "1", "HomePage", "status", "Hom"),
    Place("teachers", "Teachers", "2", "TeachersPage", "teacher list", "Tea"),
    Place("collect", "Collect", "3", "CollectPage", "collect", "Col"),
    Place("traces", "Traces", "4", "TracesPage", "traces", "Trc"),
    Place("select", "Select", "5", "SelectPage", "select", "Sel"),
    Place("formats", "Formats", "6", "FormatsPage", "show", "For"),
    Place("train", "Train", "7", "TrainPage", "train", "Trn"),
    Place("evaluate", "Evaluate", "8", "EvaluatePage", "evaluate", "Eva"),
    Place("export", "Export", "9", "ExportPage", "export", "Exp"),
    Place("chat", "Chat", "0", "ChatPage", "chat", "Cha"),
    Place("runs", "Runs", "r", "RunsPage", "runs", "Run"),
    Place("recipe", "Recipe", "e", "RecipePage", "recipe check", "Rec"),
)


def places() -> tuple[Place, ...]:
    """Every screen that exists."""
    return tuple(place for place in _ALL if find_spec(f"tui.screens.{place.name}") is not None)


def place(name: str) -> Place:
    """The screen called `name`."""
    return next(p for p in places() if p.name == name)
