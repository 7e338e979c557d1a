"""The screens. They load when they are opened first; none knows another."""

from __future__ import annotations

from importlib import import_module

from tui.menu import MENU
from tui.screens.base import Page


def load(name: str) -> type[Page]:
    """The class of the screen called `name`."""
    entry = next(entry for entry in MENU if entry.name == name)
    page: type[Page] = getattr(import_module(f"tui.screens.{name}"), entry.cls)
    return page
