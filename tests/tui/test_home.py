"""Home: the first run, imports, the examination, and workspaces that cannot be read or written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.widgets import OptionList

from localdistill import Finding, Recipe, RunFolder, Store, UsageError, Workspace, cancel
from localdistill.core.installing import upgrade_command
from tests.helpers import REPO, write_questions
from tests.tui.driving import piloted, until
from tests.tui.garden import copied, garden, text_of
from tests.tui.hostile import HOSTILE, LONG, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.screens.home import HomePage
from tui.screens.recipe import RecipePage
from tui.screens.runs import RunsPage
from tui.screens.traces import TracesPage
from tui.state import RunView
from tui.widgets.dialogs import ChoiceDialog, ReportDialog
from tui.widgets.facts import Facts
from tui.widgets.import_dialog import ImportDialog
from tui.widgets.recipe_picker import RecipePicker
from tui.widgets.text_dialog import TextDialog

HOLDER = """
import duckdb, sys
con = duckdb.connect(sys.argv[1]); con.execute('CREATE TABLE IF NOT EXISTS t (a INT)'); con.execute('BEGIN')
print('held', flush=True); sys.stdin.read()
"""


def guided(app: LocalDistillApp) -> bool:
    """The guide stands."""
    return (isinstance(app.screen, HomePage) and bool(app.screen.query_one("#guide").display)
            and "Three keys" in text_of(app, "#welcome"))


@piloted
async def test_an_empty_folder_offers_three_keys_that_do_something(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocalDistillApp(tmp_path)
    started: list[str] = []
    monkeypatch.setattr(app, "start_recipe", started.append)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("p")
        assert started == ["pantry"]
        await pilot.press("i")
        assert isinstance(app.screen, ImportDialog)
        await pilot.press("escape", "e")
        await until(pilot, lambda: app.screen.query(RecipePicker) and "pantry" in text_of(app, "#recipe-list"))
        await pilot.press("1", "enter")
        assert started == ["pantry", "pantry"]


@piloted
async def test_a_file_is_looked_at_and_imported(tmp_path: Path) -> None:
    write_questions(tmp_path / "q2.jsonl", 5)
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("i", *"q2")
        assert isinstance(app.screen, ImportDialog), "a digit that is typed is text, and switches no screen"
        await until(pilot, lambda: "q2.jsonl" in text_of(app, "#names"))
        await pilot.press("tab")
        await until(pilot, lambda: "row 3: Double 2" in text_of(app, "#said-text"))
        assert not Workspace(tmp_path).store_path.exists(), "nothing is stored before enter"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, HomePage) and not app.screen.query_one("#guide").display)
        assert Store(Workspace(tmp_path).store_path).counts().prompts == 5
        await until(pilot, lambda: "5 prompts" in screen_text(app))


@piloted
async def test_marks_that_nobody_knows_are_shown_before_and_after_an_import(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"q{n}"},
                          {"role": "assistant", "content": "<|musing|>Hm.<|/musing|>It is 6."}]} for n in range(2)]
    (tmp_path / "marked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("i", *"marked")
        await until(pilot, lambda: "marked.jsonl" in text_of(app, "#names"))
        await pilot.press("tab")
        await until(pilot, lambda: "<|musing|> looks like a mark of reasoning" in text_of(app, "#said-text"))
        await pilot.press("enter")
        await until(pilot, lambda: any("2 x <|musing|>" in note.message for note in app._notifications))


@piloted
async def test_the_row_that_cannot_be_used_is_named_and_the_rest_comes_in(tmp_path: Path) -> None:
    rows = [json.dumps({"messages": [{"role": "user", "content": f"{HOSTILE} {LONG}"}]}) for _ in range(6)]
    (tmp_path / "bad\x1b]0;x\x07.jsonl").write_text("\n".join([*rows, '{"messages": 3}\n']))
    (tmp_path / "bad.jsonl").write_text("\n".join([*rows, '{"messages": 3}\n']))
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("i", *"bad")
        await until(pilot, lambda: "bad.jsonl" in text_of(app, "#names"))
        assert_harmless(app)
        await pilot.press(*".jsonl")
        await until(pilot, lambda: "row 3" in text_of(app, "#said-text"))
        assert_harmless(app)
        await pilot.press("enter")
        await until(pilot, lambda: any("1 left out" in note.message and "row 7" in note.message
                                       for note in app._notifications))
        assert Store(Workspace(tmp_path).store_path).counts().prompts == 1
        await until(pilot, lambda: isinstance(app.screen, HomePage))


@piloted
async def test_from_a_file_to_its_recipe_in_ten_keys(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"What is {n} plus 1?"},
                          {"role": "assistant", "content": f"It is {n + 1}."}], "reference": str(n + 1)}
            for n in range(30)]
    (tmp_path / "z.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("i", "z")
        await until(pilot, lambda: "z.jsonl" in text_of(app, "#names"))
        await pilot.press("tab")
        await until(pilot, lambda: "row 1" in text_of(app, "#said-text"))
        await pilot.press("enter")
        await until(pilot, lambda: "train on what is stored" in screen_text(app))
        await pilot.press("tab", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and (tmp_path / "mine.toml").exists())
        await until(pilot, lambda: "mine.toml" in screen_text(app))


@pytest.mark.slow
@piloted
async def test_a_file_is_looked_at_run_as_a_recipe_and_taken_out_again_in_twelve_keys(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training goes on meanwhile: what is stored can be taken out at any time."""
    monkeypatch.setattr("localdistill.api.recipes.from_store.STUDENT", "shipped:pantry/student")
    rows = [{"messages": [{"role": "user", "content": f"What is {n} plus 1?"},
                          {"role": "assistant", "content": f"It is {n + 1}."}], "reference": str(n + 1)}
            for n in range(30)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app, pressed = LocalDistillApp(tmp_path), list[str]()
    async with app.run_test(size=(140, 45)) as pilot:
        async def press(*keys: str) -> None:
            pressed.extend(keys)
            await pilot.press(*keys)

        await until(pilot, lambda: guided(app))
        await press("i")
        await until(pilot, lambda: "mine.jsonl" in text_of(app, "#names"))
        await press("tab")
        await until(pilot, lambda: "row 1" in text_of(app, "#said-text"))
        await press("enter")
        await until(pilot, lambda: "train on what is stored" in screen_text(app))
        await press("tab", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and "mine.toml" in screen_text(app))
        await press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunsPage) and app.state.watched is not None)
        await press("4")
        await until(pilot, lambda: isinstance(app.screen, TracesPage) and "30" in text_of(app, "#facts"))
        await press("x")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await press("ctrl+s")
        await until(pilot, lambda: (tmp_path / "traces.jsonl").exists())
        assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 30 and len(pressed) == 12
        run = RunFolder.open(Workspace(tmp_path).runs, "last")
        assert run.recipe().name == "mine" and "train" in run.request()["stages"]
        cancel(Workspace(tmp_path), run.id)
        await until(pilot, lambda: not run.is_alive())


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 45)])
@piloted
async def test_a_workspace_with_runs_shows_them_and_opens_one(size: tuple[int, int]) -> None:
    app = LocalDistillApp(garden())
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "✓" in text_of(app, "#chain") and app.screen.query_one("#facts", Facts).rows)
        await until(pilot, lambda: "garden-1" in text_of(app, "#recent"))
        app.screen.query_one("#recent", OptionList).focus()
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.screen.TITLE == "Runs")


@piloted
async def test_the_machine_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("python", "ok", "3.12"), Finding("torch", "missing", HOSTILE, "pip install torch"),
             Finding("llama.cpp", "wrong", "RUNS ON THE CPU", "rebuild it")]
    monkeypatch.setattr("localdistill.api.models.doctor.examine", lambda workspace: found)
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(100, 45)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("d")
        # High enough for all of it: where it just fits, whether its scroll bar takes room depends on what stood before.
        marked = ("✗ torch", "! llama.cpp", "✓ python")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and all(m in screen_text(app) for m in marked))
        text = assert_harmless(app)
        assert text.index("✗ torch") < text.index("! llama.cpp") < text.index("✓ python")
        assert "pip install torch" in text
        await pilot.press("escape")
        assert guided(app)


@piloted
async def test_a_student_is_chosen_by_what_works_for_it(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(120, 45)) as pilot:
        await until(pilot, lambda: guided(app))
        app.screen.action_pick_student()
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "Gemma3ForCausalLM" in screen_text(app))
        await pilot.press("escape")
        app.screen.action_pick_student()
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        await pilot.press(*"shipped:pantry/student", "enter")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "train with torch_lora" in screen_text(app))


@piloted
async def test_a_store_that_another_process_holds_is_said_in_place_and_read_later(tmp_path: Path) -> None:
    root = copied(tmp_path)
    app = LocalDistillApp(root)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(Workspace(root).store_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdin is not None and holder.stdout.readline() == "held\n"
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "held by" in text_of(app, "#trouble"), 60)
            assert str(holder.pid) in text_of(app, "#trouble")
            assert isinstance(app.screen, HomePage) and "garden-1" in text_of(app, "#recent")
            holder.stdin.close()
            holder.wait()
            await until(pilot, lambda: not app.screen.query_one("#trouble").display)
            assert app.screen.query_one("#facts", Facts).rows
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@piloted
async def test_a_store_of_a_newer_version_is_said_in_place(tmp_path: Path) -> None:
    root = copied(tmp_path)
    script = ("import duckdb, sys; duckdb.connect(sys.argv[1]).execute("
              "\"INSERT INTO store_version VALUES (99, 'later', current_localtimestamp())\")")
    subprocess.run([sys.executable, "-c", script, str(Workspace(root).store_path)], check=True, cwd=REPO)
    before = Workspace(root).store_path.read_bytes()
    app = LocalDistillApp(root)
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "version 99" in text_of(app, "#trouble"))
        assert upgrade_command() in text_of(app, "#trouble")
        await pilot.pause()
    assert Workspace(root).store_path.read_bytes() == before


@piloted
async def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "cannot be written" in text_of(app, "#trouble"))
        assert guided(app)


@piloted
async def test_a_run_that_reports_while_a_dialog_is_open_reaches_the_screen_behind(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, ImportDialog))
        app.run_seen(RunView("pantry-1", state="running", stage="collect"))
        await pilot.press("escape")
        await until(pilot, lambda: "pantry-1 running" in screen_text(app))


@piloted
async def test_keys_pressed_in_a_hurry_start_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    started: list[str] = []

    def slow(workspace: Workspace, recipe: Recipe, *rest: object, **named: object) -> RunFolder:
        started.append(recipe.name)
        begun.wait(20)
        raise UsageError("enough", "nothing was started")

    monkeypatch.setattr("localdistill.runs.start", slow)
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("p", "p", "p")
        await until(pilot, lambda: started)
        await pilot.press("p")
        begun.set()
        await until(pilot, lambda: "enough" in screen_text(app))
        assert started == ["pantry"]
        await pilot.press("escape", "p")
        await until(pilot, lambda: len(started) == 2)


@piloted
async def test_a_pantry_run_that_is_there_is_opened_and_not_repeated(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocalDistillApp(copied(tmp_path))
    started: list[str] = []
    monkeypatch.setattr(app, "start_recipe", started.append)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.state.runs)
        app.tell(replace(app.state, runs=tuple(replace(run, recipe="pantry") for run in app.state.runs)))
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, RunsPage))
        await until(pilot, lambda: any("s starts another run" in n.message for n in app._notifications))
        assert not started


@piloted
async def test_garbage_is_looked_for_in_quiet_moments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    fake = SimpleNamespace(freeze=lambda: None, set_threshold=lambda *most: None, get_threshold=lambda: (700, 10, 10),
                           collect=lambda: looked.append(True))
    monkeypatch.setattr("tui.jobs.gc", fake)
    app = LocalDistillApp(tmp_path)
    app.tidies = True
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: guided(app))
        await pilot.press("down")
        monkeypatch.setattr("tui.jobs.QUIET_S", 3600.0)
        app.jobs.tidy()
        assert not looked, "a key was pressed just now"
        monkeypatch.setattr("tui.jobs.QUIET_S", 0.0)
        app.jobs.tidy()
        assert looked
