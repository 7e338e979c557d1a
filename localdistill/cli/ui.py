"""The tui command. The UI is a package of its own, found by its entry point: the command line knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import typer

from localdistill.cli import output
from localdistill.cli.arguments import WorkspaceOption

GROUP = "localdistill.ui"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("tui", help="Open the terminal UI; `localdistill` alone does the same on a terminal.")(tui)


def tui(workspace: WorkspaceOption = None) -> None:
    """Open the terminal UI."""
    open_ui(workspace)


def open_ui(workspace: Path | None) -> None:
    """Open the UI on a workspace and stay until it is closed."""
    from importlib.metadata import entry_points

    from localdistill import UsageError, Workspace

    Workspace.find(workspace)
    if not output.is_terminal():
        raise UsageError("the terminal UI needs a terminal, and this is none",
                         "open it in one; in scripts `localdistill status` says where a workspace stands")

    found = next(iter(entry_points(group=GROUP)), None)
    if found is None:
        from localdistill import repair_command

        raise UsageError("no terminal UI is installed", repair_command())
    found.load()(workspace)
