"""Runs: attach, log, quarantine, pruning with its dry list; a run that died, a folder that is gone, damaged facts."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import OptionList

from localdistill import RunFolder, Workspace, list_runs, start, wait
from localdistill.recipe import load_recipe
from tests.helpers import collecting_recipe, counting_server, wait_for, write_questions
from tests.tui.driving import piloted, until
from tests.tui.garden import copied, garden, text_of
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.screens.runs import RunsPage
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, ReportDialog
from tui.widgets.growing_list import STEP
from tui.widgets.text_dialog import TextDialog


def stands(app: LocalDistillApp, run_id: str) -> bool:
    """The run is drawn."""
    return isinstance(app.screen, RunsPage) and run_id in text_of(app, "#title")


def collected(root: Path, broken: bool = False) -> Workspace:
    """A workspace with one finished run of eight questions; two bodies could not be read when `broken`."""
    questions = write_questions(root / "q.jsonl", 8)
    with counting_server() as server:
        server.broken = lambda number: broken and number < 2
        text = collecting_recipe(questions, server.url, 2, "retries = 0") + "\n[collect]\nmay_fail = 0.5\n"
        (root / "mine.toml").write_text(text)
        status = wait(start(Workspace(root), load_recipe(root / "mine.toml"), text, root, "collect"))
    assert status.state == "finished", status.data
    return Workspace(root)


def bare_runs(root: Path, count: int) -> None:
    """Runs that nobody began, one second after the other."""
    for number in range(1, count + 1):
        folder = root / f"runs/many-{number}"
        folder.mkdir(parents=True)
        (folder / "request.json").write_text('{"stages": ["collect"], "base": "/"}')
        os.utime(folder / "request.json", (1e9 + number, 1e9 + number))


@asynccontextmanager
async def two_runs(tmp_path: Path) -> AsyncIterator[tuple[Pilot[None], LocalDistillApp, str]]:
    """Runs of a workspace that has two; the name of the one that does not stand there."""
    root = copied(tmp_path)
    shutil.copytree(root / "runs/garden-1", root / "runs/other-7")
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1") or stands(app, "other-7"))
        yield pilot, app, "other-7" if stands(app, "garden-1") else "garden-1"


@piloted
async def test_a_run_is_chosen_and_its_facts_replay(tmp_path: Path) -> None:
    async with two_runs(tmp_path) as (pilot, app, wanted):
        listing = app.screen.query_one("#list", OptionList)
        assert listing.option_count == 2
        listing.highlighted = listing.get_option_index(wanted)
        listing.focus()
        await pilot.press("enter")
        await until(pilot, lambda: stands(app, wanted))
        await until(pilot, lambda: "+ export full_trace" in screen_text(app))
        assert "✓" in text_of(app, "#stages")


@piloted
async def test_a_run_attached_elsewhere_is_the_one_that_keys_act_on(tmp_path: Path) -> None:
    async with two_runs(tmp_path) as (pilot, app, wanted):
        app.go("home")
        await pilot.pause()
        app.attach(wanted)
        app.go("runs")
        await until(pilot, lambda: stands(app, wanted))
        assert app.screen.run_id == wanted


@piloted
async def test_the_log_of_the_processes_is_one_key_away(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "runs/garden-1/log.txt").write_bytes(f"libraries say {HOSTILE}\n".encode("utf-8", "replace"))
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1"))
        await pilot.press("l")
        await until(pilot, lambda: "libraries say" in screen_text(app))
        assert_harmless(app)
        await pilot.press("l")
        await until(pilot, lambda: "libraries say" not in screen_text(app))


@piloted
async def test_unreadable_replies_are_listed_with_their_first_bytes(tmp_path: Path) -> None:
    collected(tmp_path, broken=True)
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: stands(app, "collecting-1"))
        await pilot.press("b")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "\\xff\\xfe<html>" in screen_text(app))
        assert_harmless(app)
        await pilot.press("escape")
    app = LocalDistillApp(garden(), start="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1"))
        await pilot.press("b")
        await until(pilot, lambda: "every reply of this run could be read" in screen_text(app))


@piloted
async def test_verifying_shows_what_is_damaged_above_what_is_whole(tmp_path: Path) -> None:
    root = copied(tmp_path)
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1"))
        await app.run_action("screen.verify_run")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "were read" in screen_text(app))
        assert "damaged" not in screen_text(app)
        await pilot.press("escape")
        with open(next((root / "artifacts/export").glob("*/*.gguf")), "ab") as file:
            file.write(b"more")
        await app.run_action("screen.verify_workspace")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "damaged" in screen_text(app))
        assert "export " in screen_text(app) and "resume garden-1" in screen_text(app)


def is_offered(app: LocalDistillApp) -> bool:
    """Whether a window offers ways to go on, and enter would take one."""
    return isinstance(app.focused, OptionList) and isinstance(app.screen, ChoiceDialog) \
        and app.focused.highlighted is not None


@piloted
async def test_pruning_shows_what_would_go_and_asks_before_anything_goes(tmp_path: Path) -> None:
    workspace = collected(tmp_path)
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, "collecting-1"))
        await pilot.press("d")
        await until(pilot, lambda: "Nothing would go" in screen_text(app) and is_offered(app))
        assert "1 runs: younger than 7 days" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: "Goes:" in screen_text(app) and is_offered(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("n")
        assert len(list_runs(workspace.runs)) == 1, "no means no"
        await pilot.press("d")
        await until(pilot, lambda: is_offered(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Goes:" in screen_text(app) and is_offered(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: not list_runs(workspace.runs))
        await until(pilot, lambda: "Its folder is gone" in screen_text(app))


@piloted
async def test_a_folder_that_somebody_deletes_leaves_the_screen_standing(tmp_path: Path) -> None:
    root = copied(tmp_path)
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1") and "+ export full_trace" in screen_text(app))
        shutil.rmtree(root / "runs/garden-1")
        app.attach("garden-1")  # as its key does while the list still shows it
        await until(pilot, lambda: "there is no run 'garden-1'" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "Its folder is gone" in screen_text(app))
        assert "+ export full_trace" in screen_text(app), "what was read is still there"


@piloted
async def test_damaged_facts_are_counted_and_the_rest_is_shown(tmp_path: Path) -> None:
    root = copied(tmp_path)
    events = root / "runs/garden-1/events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    odd = b'{"kind": "counted", "stage": "x", "what": "y", "counts": 5}\n'
    torn = [b"\x00\xff not json\n", odd, b"[" * 9999 + b"\n"]
    events.write_bytes(b"".join([*lines[:5], *torn, *lines[5:]]) + b'{"kind": "no')
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, "garden-1"))
        await until(pilot, lambda: "3 lines of its record of facts are damaged" in screen_text(app))
        assert app.state.watched is not None and app.state.watched.state == "finished"
        assert_harmless(app)


@piloted
async def test_a_run_whose_supervisor_is_killed_says_so_and_resumes(tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 30)
    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(questions, server.url, 2)
        (tmp_path / "mine.toml").write_text(text)
        folder = start(Workspace(tmp_path), load_recipe(tmp_path / "mine.toml"), text, tmp_path, "collect")
        app = LocalDistillApp(tmp_path, start="runs")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: stands(app, folder.id) and folder.journal.exists())
            os.kill(json.loads((folder.path / "status.json").read_text())["pid"], signal.SIGKILL)
            await until(pilot, lambda: "ended without a word" in screen_text(app))
            assert "■ collect" in text_of(app, "#stages").replace("\u00a0", " ")
            server.latency_s = 0.0
            wait_for(lambda: not folder.is_alive())
            await pilot.press("u")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished")
            assert "without a word" not in screen_text(app)


@piloted
async def test_attaching_to_an_old_run_stays_while_another_one_works(tmp_path: Path) -> None:
    collected(tmp_path)
    with counting_server(latency_s=0.2) as server:
        text = collecting_recipe(write_questions(tmp_path / "more.jsonl", 40), server.url, 1)
        (tmp_path / "mine.toml").write_text(text)
        app = LocalDistillApp(tmp_path, start="runs")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: stands(app, "collecting-1"))
            second = start(Workspace(tmp_path), load_recipe(tmp_path / "mine.toml"), text, tmp_path, "collect")
            await until(pilot, lambda: stands(app, second.id))
            listing = app.screen.query_one("#list", OptionList)
            listing.highlighted = listing.get_option_index("collecting-1")
            await pilot.press("a")
            await until(pilot, lambda: stands(app, "collecting-1"))
            listing.highlighted = listing.get_option_index(second.id)
            await pilot.press("x")
            await until(pilot, lambda: RunFolder(second.path).status().state == "cancelled")
            await until(pilot, lambda: "cancelled" in text_of(app, "#list"))
            assert stands(app, "collecting-1"), "what was chosen stays"


@piloted
async def test_an_empty_workspace_says_what_to_press(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "No runs yet" in screen_text(app))
        await pilot.press("x", "u", "m", "a", "b", "l")
        assert "s starts a recipe" in screen_text(app)


@piloted
async def test_of_very_many_runs_the_newest_are_laid_out_and_older_ones_when_the_cursor_comes_to_them(
        tmp_path: Path) -> None:
    bare_runs(tmp_path, 2 * STEP + 10)
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, f"many-{2 * STEP + 10}"))
        listing = app.screen.query_one("#list", OptionList)
        assert listing.option_count == STEP + 1
        listing.focus()
        await pilot.press("end")
        assert listing.option_count == 2 * STEP + 1 and app.screen.run_id == f"many-{STEP + 10}"
        assert "many-210" in screen_text(app)
        await pilot.press("end", "end")
        assert listing.option_count == 2 * STEP + 10 and app.screen.run_id == "many-1"
        app.attach("many-3")
        await until(pilot, lambda: stands(app, "many-3"))
        assert app.screen.run_id == "many-3"


@piloted
async def test_an_old_run_that_is_attached_is_under_the_cursor_however_many_are_newer(tmp_path: Path) -> None:
    bare_runs(tmp_path, 3 * STEP)
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app, f"many-{3 * STEP}"))
        app.attach("many-2")
        await until(pilot, lambda: stands(app, "many-2"))
        assert app.screen.run_id == "many-2" and "! many-2 " in screen_text(app)


@piloted
async def test_two_runs_are_compared_in_pairs(tmp_path: Path) -> None:
    root = copied(tmp_path)
    shutil.copytree(root / "runs/garden-1", root / "runs/garden-2")
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: len(app.state.runs) == 2)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press("enter", "enter", "enter")
        await until(pilot, lambda: "/full_trace against garden-" in screen_text(app) and "points" in screen_text(app))
