"""Text of models, servers and files tries to steer the terminal through every screen of the real program on a real
pseudo-terminal. Nothing of it may arrive as more than text, run an action, or bring a screen down."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from localdistill import Workspace
from localdistill.core.seals import sealed, unsealed
from tests.boundary.corpus import EVIL, LONG
from tests.boundary.places import evil_run
from tests.tui import chain, prepared
from tests.tui.driving import piloted, until
from tests.tui.hostile import assert_harmless
from tests.tui.snapshots import calm
from tests.tui.terminal import Terminal
from tui.app import LocalDistillApp
from tui.conversation import ChatExchange, Conversation
from tui.menu import MENU
from tui.state import RunView, Said
from tui.widgets.choose import Choose
from tui.widgets.copy_line import CopyLine
from tui.widgets.dialogs import ConfirmDialog, ErrorDialog

FORBIDDEN = (b"\x1b]0;PWN", b"UFdORUQ=\x07", b"\x1b]52;c;UFdORUQ", b"\x1b]8;;http://pwn", b"\x1bP+q544e", b"\xc2\x9b",
             b"\xc2\x9d", b"\xe2\x80\xae", b"\xe2\x81\xa6", b"\x1b[31mPWN", b"\x1b[2J\x1b[31m", b"\xed\xa0\xbd",
             b"\xe2\x80\xa8")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile traces, a hostile run, hostile recipes, and an export of hostile names."""
    root = tmp_path_factory.mktemp("hostile") / "w"
    shutil.copytree(chain.hostile(), root)
    workspace = Workspace(root)
    _, run = prepared.begun(root)
    prepared.export(workspace, run, [])
    made = unsealed((run.path / "stages" / "export.json").read_bytes())
    made |= {"arm": EVIL, "terms": {"strictest": EVIL, "providers": [EVIL]}, "not_measured": [EVIL, LONG],
             "measured": [{"task": EVIL, "items": 3, "forms": [
                 {"form": EVIL, "score": 0.5, "interval": [0, 1], "verdict": EVIL, "difference": 0.1}]}]}
    (run.path / "stages" / "export.json").write_text(sealed(made))
    evil_run(workspace)
    recipe = prepared.RECIPE.replace("Stories about fruit, twenty-four of them.",
                                     "SEEN \\u001B]0;PWNTITLE\\u0007 [@click=app.bell]x[/] \\u202E")
    (root / "SEEN\x1b[31mPWN[@click=app.bell].toml").write_text(recipe)
    (root / "broken.toml").write_bytes(b"name = \x1b]0;PWN\x07\xff")
    return root


def harmless(output: bytes, text: str) -> None:
    """AssertionError when something of the corpus arrived as more than text. text: what was readable; our own bell
    rings when keys came too early, and says so."""
    for bad in FORBIDDEN:
        place = output.find(bad)
        assert place < 0, f"{bad!r} in {output[max(0, place - 60):place + 60]!r}"
    assert b"\x00" not in output
    own = re.sub(rb"\x1b\](?:0|22|52;c);[A-Za-z0-9+/= ]*\x07", b"", output)
    bell = own.find(b"\x07")
    assert bell < 0 or "were left out" in text, f"the bell rang: {own[max(0, bell - 80):bell + 20]!r}"


def test_every_screen_of_the_real_program_in_a_real_terminal(workspace: Path, tmp_path: Path) -> None:
    own = shutil.copytree(workspace, tmp_path / "w")  # keys are pressed in it that change it
    with Terminal(own, size=(110, 34)) as terminal:
        terminal.until(" Home ")
        terminal.settle()
        for entry in [*MENU[1:], MENU[0]]:
            terminal.go(entry.key, entry.title)
            terminal.settle()
            for key in ("down", "down", "enter", "escape", "tab", "down", "escape"):
                terminal.press(key)
                terminal.settle(0.15, 5)
            assert terminal.process.poll() is None, f"{entry.title} ended the program: {terminal.text()[-3000:]}"
        terminal.resize(60, 20)
        terminal.settle()
        for row in range(3, 19, 2):
            terminal.click(30, row)
            terminal.settle(0.1, 5)
        terminal.press("escape", "f1")
        terminal.settle()
        output = bytes(terminal.output)
        harmless(output, terminal.text())
        assert terminal.text().count("SEEN") > 20, "the corpus was not on the screens at all"
        terminal.press("escape", "escape", "ctrl+q")
        terminal.wait_until(lambda: terminal.process.poll() is not None, "the end")
    assert terminal.process.returncode == 0


def evil_conversation() -> Conversation:
    """A conversation that says hostile things."""
    conversation = Conversation(Path("/SEEN\x1b]0;PWN\x07.gguf"), EVIL)
    conversation.exchanges = (
        ChatExchange(EVIL, EVIL, EVIL, "done", EVIL, tokens=3, seconds=1), ChatExchange(LONG, LONG, LONG, "done"),
        ChatExchange(EVIL, "", "", "failed", EVIL, EVIL), ChatExchange(EVIL, EVIL, "", "writing"))
    return conversation


@pytest.mark.parametrize("name", [entry.name for entry in MENU])
@pytest.mark.parametrize("size", [(60, 20), (140, 45)])
def test_no_screen_holds_anything_that_steers(workspace: Path, name: str, size: tuple[int, int]) -> None:
    """The strips of each screen hold no control character, no link and no action of the corpus."""
    @piloted
    async def body() -> None:
        app = LocalDistillApp(workspace, start=name)
        async with app.run_test(size=size) as pilot:
            await calm(pilot)
            evil = RunView(EVIL, recipe=EVIL, said=(Said("error", EVIL, EVIL, EVIL), Said("note", LONG)))
            app.run_seen(evil)
            await pilot.pause()
            if name == "chat":
                page: Any = app.screen
                page._conversations = [evil_conversation(), evil_conversation()]
                page._unfolded = True
                page._draw()
            await calm(pilot)
            assert_harmless(app)

    body()


@piloted
async def test_windows_and_messages_show_hostile_text_as_text(workspace: Path) -> None:
    from localdistill import LocalDistillError

    app = LocalDistillApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.show_error(LocalDistillError(EVIL, EVIL))
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert "SEEN" in assert_harmless(app)
        for window in (ConfirmDialog(EVIL, lambda: None), Choose(EVIL, [(EVIL, EVIL, EVIL), (LONG, LONG, LONG)], print,
                                                                 typed=EVIL, note=EVIL)):
            app.push_screen(window)
            await pilot.pause()
            assert "SEEN" in assert_harmless(app)
        await app.screen.mount(CopyLine(EVIL, EVIL))
        await pilot.pause()
        app.screen.query_one(CopyLine).focus()
        await pilot.press("enter")
        await pilot.pause()
        assert_harmless(app)
        assert app.clipboard, "what has no encoding is copied as it is shown"
