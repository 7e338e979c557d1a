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

    def load(self) -> type[Page]:
        """The screen's class."""
        page: type[Page] = getattr(import_module(f"tui.screens.{self.name}"), self.cls)
        return page


_ALL = (
    Place("home", "Home", "1", "HomePage", "status"),
    Place("teachers", "Teachers", "2", "TeachersPage", "teacher list"),
    Place("collect", "Collect", "3", "CollectPage", "collect"),
    Place("traces", "Traces", "4", "TracesPage", "traces"),
    Place("select", "Select", "5", "SelectPage", "select"),
    Place("formats", "Formats", "6", "FormatsPage", "show"),
    Place("train", "Train", "7", "TrainPage", "train"),
    Place("evaluate", "Evaluate", "8", "EvaluatePage", "evaluate"),
    Place("export", "Export", "9", "ExportPage", "export"),
    Place("chat", "Chat", "0", "ChatPage", "chat"),
    Place("runs", "Runs", "r", "RunsPage", "runs"),
    Place("recipe", "Recipe", "e", "RecipePage", "recipe check"),
)


def places() -> tuple[Place, ...]:
    """Every screen that exists."""
    return tuple(place for place in _ALL if find_spec(f"tui.screens.{place.name}") is not None)


def place(name: str) -> Place:
    """The screen called `name`."""
    return next(p for p in places() if p.name == name)
