"""Collect: a run is started, watched, cancelled, resumed and given more money from the screen, against a teacher on
loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from localdistill import RunFolder, Workspace, start, wait
from localdistill.recipe import load_recipe
from localdistill.safety.journal import read
from tests.helpers import CountingServer, collecting_recipe, counting_server, write_questions
from tests.tui.driving import piloted, until
from tests.tui.garden import text_of
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tests.tui.prepared import collecting
from tui.app import LocalDistillApp
from tui.screens.collect import CollectPage
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog
from tui.widgets.text_dialog import TextDialog

COUNT = 24




def prepared(root: Path, server: CountingServer, extra: str = "", head: str = "") -> Workspace:
    """A workspace with questions and a recipe, and nothing collected."""
    questions = write_questions(root / "questions.jsonl", COUNT)
    (root / "mine.toml").write_text(head + collecting_recipe(questions, server.url, 2, extra))
    return Workspace(root)


def status_of(workspace: Workspace) -> str:
    return RunFolder.open(workspace.runs, "last").status().state


def replies(workspace: Workspace) -> int:
    return sum(1 for _ in read(RunFolder.open(workspace.runs, "last").journal))


async def start_mine(app: LocalDistillApp, pilot: Pilot[Any]) -> None:
    """s, then the recipe of this workspace."""
    await until(pilot, lambda: isinstance(app.screen, CollectPage))
    await pilot.press("s")
    await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
    ways = app.screen.query_one("#ways", OptionList)
    place = next(i for i in range(ways.option_count) if "mine" in str(ways.get_option_at_index(i).prompt))
    ways.highlighted = place
    await pilot.press("enter")
    await until(pilot, lambda: app.state.watched is not None)


@piloted
async def test_start_watch_and_end(tmp_path: Path) -> None:
    with counting_server(latency_s=0.02) as server:
        workspace = prepared(tmp_path, server)
        app = LocalDistillApp(tmp_path, start="collect")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "Nothing was collected here yet" in screen_text(app))
            await start_mine(app, pilot)
            await until(pilot, lambda: isinstance(app.screen, CollectPage) and "answer is" in text_of(
                app, "#answer-text"))
            number = text_of(app, "#answer-text").split()[-1].rstrip(".")
            assert f"= {number}" in text_of(app, "#thinking-text"), "thinking and answer are of one reply, and apart"
            await until(pilot, lambda: status_of(workspace) == "finished" and app.state.watched is not None
                        and app.state.watched.state == "finished")
            facts = text_of(app, "#facts")
            assert f"{COUNT}" in facts and "complete" in facts and "nothing spent, no cap" in facts
            assert list(app.state.watched.stages)[-1].name == "collect", "collect is the last stage that was asked for"
        assert sum(server.asked.values()) == COUNT


@piloted
async def test_cancel_and_resume_ask_nothing_twice(tmp_path: Path) -> None:
    with counting_server(latency_s=0.1) as server:
        workspace = prepared(tmp_path, server)
        app = LocalDistillApp(tmp_path, start="collect")
        async with app.run_test(size=(80, 24)) as pilot:
            await start_mine(app, pilot)
            await until(pilot, lambda: isinstance(app.screen, CollectPage) and replies(workspace) >= 3)
            await pilot.press("x")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "cancelled")
            assert replies(workspace) < COUNT
            server.latency_s = 0.0
            await pilot.press("u")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished")
        assert replies(workspace) == COUNT and set(server.asked.values()) == {1}


@piloted
async def test_a_paused_run_goes_on_under_a_higher_cap_after_an_amount_and_a_yes(tmp_path: Path) -> None:
    prices = "usd_per_million_input = 1000\nusd_per_million_output = 1000\nmax_tokens_field = \"max_tokens\""
    with counting_server() as server:
        workspace = prepared(tmp_path, server, prices, "max_usd = 0.5\n")
        text = (tmp_path / "mine.toml").read_text() + "\n[collect]\nmax_tokens = 100\n"
        (tmp_path / "mine.toml").write_text(text)
        folder = start(workspace, load_recipe(tmp_path / "mine.toml"), text, tmp_path, "collect")
        assert wait(folder).state == "paused"
        asked = sum(server.asked.values())
        app = LocalDistillApp(tmp_path, start="collect")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: isinstance(app.screen, CollectPage)
                        and "cap reached" in text_of(app, "#facts"))
            await pilot.press("u")
            await until(pilot, lambda: isinstance(app.screen, TextDialog))
            field = app.screen.query_one(Input)
            field.value = "nothing"
            await pilot.press("enter")
            assert "no amount above zero" in screen_text(app)
            field.value = "50"
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert "$50.00" in screen_text(app) and sum(server.asked.values()) == asked
            await pilot.press("y")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished")
            assert "of $50.00" in text_of(app, "#facts")


@piloted
async def test_a_living_run_of_somebody_else_shows_rates_and_errors_by_kind(tmp_path: Path) -> None:
    with collecting(tmp_path / "asking") as workspace:
        app = LocalDistillApp(workspace.root, start="collect")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: isinstance(app.screen, CollectPage) and "14 of 24" in text_of(app, "#facts"))
            facts = text_of(app, "#facts")
            assert "429 Too Many Requests" in facts and "length" in facts and "$0.0182" in facts
            assert "newest reply, of gardener-32b" in text_of(app, "#who")
            assert app.screen.query_one("#thinking").display and not app.screen.query_one("#answer").display


@pytest.mark.parametrize("size", [(60, 20), (140, 45)])
@piloted
async def test_what_teachers_write_cannot_steer_the_terminal(tmp_path: Path, size: tuple[int, int]) -> None:
    with collecting(tmp_path / "asking") as workspace:
        folder = RunFolder.open(workspace.runs, "last")
        status = folder.status().data
        folder.write_status({**status, "tail": HOSTILE, "tail_answer": HOSTILE, "tail_of": HOSTILE, "label": HOSTILE,
                             "tables": {"errors": {HOSTILE: 3}, "replies": {HOSTILE: 1}, "teachers": {HOSTILE: 2}}})
        app = LocalDistillApp(workspace.root, start="collect")
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: isinstance(app.screen, CollectPage) and "right to left" in text_of(
                app, "#answer-text"))
            assert "thinking" in assert_harmless(app)
