"""The menu: name of each screen -> its class, its key and its titles. Knows no screen: `tui/screens` loads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MenuEntry:
    """One screen in the menu."""

    name: str
    """Of its module in `tui/screens`."""
    title: str
    key: str
    cls: str
    twin: str
    """The command of the command line that shows the same."""
    short: str
    """Its title where there is no room."""


MENU = (
    MenuEntry("home", "Home", "1", "HomePage", "status", "Hom"),
    MenuEntry("teachers", "Teachers", "2", "TeachersPage", "teacher list", "Tea"),
    MenuEntry("collect", "Collect", "3", "CollectPage", "collect", "Col"),
    MenuEntry("traces", "Traces", "4", "TracesPage", "traces", "Trc"),
    MenuEntry("select", "Select", "5", "SelectPage", "select", "Sel"),
    MenuEntry("formats", "Formats", "6", "FormatsPage", "show", "For"),
    MenuEntry("train", "Train", "7", "TrainPage", "train", "Trn"),
    MenuEntry("evaluate", "Evaluate", "8", "EvaluatePage", "evaluate", "Eva"),
    MenuEntry("export", "Export", "9", "ExportPage", "export", "Exp"),
    MenuEntry("chat", "Chat", "0", "ChatPage", "chat", "Cha"),
    MenuEntry("runs", "Runs", "r", "RunsPage", "runs", "Run"),
    MenuEntry("recipe", "Recipe", "e", "RecipePage", "recipe check", "Rec"),
)
