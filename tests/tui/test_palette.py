"""The palette: everything that can be done here, found by typing, done by Enter."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.pilot import Pilot

from tests.tui.driving import piloted, until
from tui.app import LocalDistillApp
from tui.menu import MENU


def listed(app: LocalDistillApp) -> list[str]:
    """The first lines of what the palette offers now."""
    options = app.screen.query_one(CommandList)._options
    return [Content.from_text(str(option.prompt)).plain.split("\n")[0].strip() for option in options]


async def opened(pilot: Pilot[None], key: str) -> None:
    await pilot.press(key)
    app = pilot.app
    assert isinstance(app, LocalDistillApp)
    await until(pilot, lambda: isinstance(app.screen, CommandPalette) and listed(app))


@pytest.mark.parametrize("name", [entry.name for entry in MENU])
@piloted
async def test_it_lists_what_can_be_done_on_every_screen(tmp_path: Path, name: str) -> None:
    app = LocalDistillApp(tmp_path, start=name)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: getattr(app.screen, "ACTIONS", ()))
        wanted = [command.title for command in app.commands_now()]
        assert any(title == "quit: localdistill" for title in wanted)
        await opened(pilot, "ctrl+p")  # a colon is text where text is typed
        await until(pilot, lambda: sorted(listed(app)) == sorted(wanted))


@piloted
async def test_what_is_typed_is_found_and_done(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, "colon")
        await pilot.press(*"open: Teach")
        await until(pilot, lambda: listed(app)[:1] == ["open: Teachers"])
        await pilot.press("enter")
        await until(pilot, lambda: getattr(app.screen, "TITLE", "") == "Teachers")
