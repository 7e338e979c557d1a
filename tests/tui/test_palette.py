"""The palette: everything that can be done here, found by typing, done by Enter."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.command import CommandList, CommandPalette
from textual.content import Content
from textual.pilot import Pilot

import localdistill
from localdistill import RunFolder
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


@piloted
async def test_runs_that_are_started_and_resumed_here_wait_for_power_once_that_was_asked_for(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tui.toml").write_text('on_battery = "go"\n')
    asked: list[str | None] = []
    run = RunFolder(tmp_path / "runs" / "x-1")

    def started(*_: object, on_battery: str, **__: object) -> RunFolder:
        asked.append(on_battery)
        return run

    def resumed(workspace: object, run_id: str, max_usd: object, spent: object, arm: object, on_battery: str,
                end_by: object, notify: object) -> RunFolder:
        asked.append(on_battery)
        return run

    monkeypatch.setattr(localdistill, "start", started)
    monkeypatch.setattr(localdistill, "resume", resumed)
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.on_battery == "go")
        app.start_recipe("pantry")
        await until(pilot, lambda: asked == ["go"])
        await opened(pilot, "colon")
        await pilot.press(*"battery:")
        await until(pilot, lambda: listed(app)[:1] == ["battery: pause on it, or go on"])
        await pilot.press("enter")
        await until(pilot, lambda: app.on_battery == "pause")
        assert "wait for mains power" in " ".join(notice.message for notice in app._notifications)
        app.start_recipe("pantry")
        app.resume_run("x-1")
        await until(pilot, lambda: len(asked) == 3)
        assert asked == ["go", "pause", "pause"]
