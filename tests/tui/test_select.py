from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from localdistill import RunFolder, SetVerdicts, Workspace, parse_recipe, saved_selections, start, wait
from tests.tui.chain import QUESTIONS, doubling, empty, hostile
from tests.tui.driving import piloted, until
from tests.tui.hostile import assert_harmless
from tui.app import LocalDistillApp
from tui.widgets.paged_table import PagedTable
from tui.widgets.waterfall import verdict_rows


async def shows(pilot: Pilot[None], app: LocalDistillApp, text: str) -> str:
    """The screen's text once it holds `text`; everything on it was harmless."""
    await until(pilot, lambda: text in assert_harmless(app))
    return assert_harmless(app)


def line_of(app: LocalDistillApp, start: str) -> str:
    """The line of the screen that begins so."""
    return next(text for text in assert_harmless(app).splitlines() if text.strip(" ›").startswith(start))


async def change(pilot: Pilot[None], app: LocalDistillApp, value: str) -> None:
    """Type a value for the option under the cursor."""
    await pilot.press("enter")
    await until(pilot, lambda: app.screen.query(Input))
    app.screen.query_one(Input).value = value
    await pilot.press("enter")


@piloted
async def test_the_waterfall_of_the_run() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces → {QUESTIONS - 5} kept")
        assert "-5" in line_of(app, "● verified") and f"{QUESTIONS - 5}" in line_of(app, "● verified")
        assert "-0" in line_of(app, "● duplicates")
        await shows(pilot, app, "saved selections")
        await pilot.press("down", "down")
        await shows(pilot, app, "Lowest score that is kept")


@piloted
async def test_a_changed_option_is_counted_at_once_and_z_undoes_it() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "kept")
        await pilot.press("down", "down")
        await change(pilot, app, "7")
        await shows(pilot, app, "should be less")
        app.screen.query_one(Input).value = "0.0"
        await pilot.press("enter")
        await shows(pilot, app, f"{QUESTIONS} traces → {QUESTIONS} kept")
        assert "-5" in line_of(app, "● verified")
        await shows(pilot, app, "changed: w runs it")
        await pilot.press("z")
        await shows(pilot, app, f"{QUESTIONS} traces → {QUESTIONS - 5} kept")


@piloted
async def test_space_switches_a_filter_off_and_w_runs_what_stands_here(tmp_path: Path) -> None:
    root = Path(shutil.copytree(doubling(), tmp_path / "doubling"))
    app = LocalDistillApp(root, start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "kept")
        await pilot.press("down", "space")
        await shows(pilot, app, f"{QUESTIONS} traces → {QUESTIONS} kept")
        await shows(pilot, app, "○ verified (off)")
        await pilot.press("w")
        await until(pilot, lambda: (root / "runs" / "doubling-2" / "status.json").exists())
        run = RunFolder.open(root / "runs", "doubling-2")
        await until(pilot, lambda: not run.is_alive())
        assert wait(run).state == "finished"
        assert len(run.ids("select")) == QUESTIONS
        assert [member.use for member in run.recipe().filters] == ["duplicates"]
        assert "verified" not in (run.path / "recipe.toml").read_text()
        await shows(pilot, app, "doubling-2  selection")


@piloted
async def test_a_run_of_several_sets_shows_one_after_the_other_and_w_changes_the_filters_of_one(tmp_path: Path) -> None:
    for name, count in (("many", 6), ("few", 3)):
        rows = [{"messages": [{"role": "user", "content": f"{name} {n}?"},
                              {"role": "assistant", "content": f"It is {n}."}], "reference": str(n)}
                for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = ('name = "two"\n[traces]\nmany = { files = ["many.jsonl"] }\nfew = { files = ["few.jsonl"] }\n'
            '[[grade]]\nuse = "exact"\n[[filter]]\nuse = "verified"\n')
    assert wait(start(Workspace(tmp_path), parse_recipe(text), text, tmp_path)).state == "finished"
    app = LocalDistillApp(tmp_path, start="select")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, "6 traces → 6 kept")
        await shows(pilot, app, "set 1 of 2:  selection 'two/many'")
        await pilot.press("n")
        await shows(pilot, app, "set 2 of 2:  selection 'two/few'")
        await shows(pilot, app, "3 traces → 3 kept")
        await until(pilot, lambda: app.screen.query_one("#steps", PagedTable).has_focus)
        await pilot.press("down", "space")
        await shows(pilot, app, "○ verified (off)")
        await pilot.press("w")
        await until(pilot, lambda: (tmp_path / "runs" / "two-2" / "status.json").exists())
        run = RunFolder.open(tmp_path / "runs", "two-2")
        await until(pilot, lambda: not run.is_alive())
        recipe = run.recipe()
        assert recipe.trace_set("few").filters == () and recipe.filters_of(recipe.trace_set("many")) != ()
        assert parse_recipe((run.path / "recipe.toml").read_text()) == recipe


@piloted
async def test_a_saved_selection_opens_in_traces() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "saved selections")
        await pilot.press("a")
        await until(pilot, lambda: app.screen.query_one("#saved", PagedTable).has_focus)
        await pilot.press("enter")
        text = await shows(pilot, app, f"{QUESTIONS - 5} traces")
        assert "selection:" in text


@piloted
async def test_what_is_removed_is_listed_with_its_reason_and_opens_in_traces() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, f"{QUESTIONS - 5} kept")
        await pilot.press("v")
        text = await shows(pilot, app, "removed: verified 5")
        assert text.count("score 0") >= 5
        await until(pilot, lambda: app.screen.query_one("#removed", PagedTable).has_focus)
        await pilot.press("enter")
        await shows(pilot, app, "1 trace")
        await shows(pilot, app, "filter: trace_id =")


@piloted
async def test_removals_are_those_of_the_filters_as_they_stand_here() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, f"{QUESTIONS - 5} kept")
        await pilot.press("down", "space")
        await shows(pilot, app, f"{QUESTIONS} traces → {QUESTIONS} kept")
        await pilot.press("v")
        await shows(pilot, app, "removed: nothing")


@piloted
async def test_the_table_of_verdicts_opens() -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, f"{QUESTIONS - 5} kept")
        await pilot.press("b")
        text = await shows(pilot, app, f"{QUESTIONS - 5} right")
        assert "5 wrong, 0 undecided" in text


def test_means_of_metrics_stand_apart_from_the_counts() -> None:
    [(label, text)] = verdict_rows([SetVerdicts("read", "code@2", 4, 3, 1, 0, {"passed": 0.75, "tests": 2.0})])
    assert label == "read, code@2" and text.endswith("0 undecided of 4; means: passed 0.75, tests 2")
    assert verdict_rows([SetVerdicts("read", "math@3", 1, 1, 0, 0, {})])[0][1].endswith("of 1")


@piloted
async def test_nothing_can_be_chosen_before_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    may_look = threading.Event()
    monkeypatch.setattr("tui.screens.select.saved_selections", lambda w: (may_look.wait(30), saved_selections(w))[1])
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        assert "saved selections" not in await shows(pilot, app, "looking ...")
        await pilot.press("a", "enter", "space")
        may_look.set()
        await shows(pilot, app, "saved selections")
        await until(pilot, lambda: app.screen.query_one("#steps", PagedTable).has_focus)


@piloted
async def test_an_empty_workspace_says_what_to_do() -> None:
    app = LocalDistillApp(empty(), start="select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "Nothing to select from yet")
        await pilot.press("down", "enter", "space", "w", "z", "o", "a")
        await shows(pilot, app, "Nothing to select from yet")


@piloted
async def test_hostile_names_of_selections_stay_harmless() -> None:
    app = LocalDistillApp(hostile(), start="select")
    for size in ((80, 24), (140, 45)):
        app = LocalDistillApp(hostile(), start="select")
        async with app.run_test(size=size) as pilot:
            await shows(pilot, app, "␛[31mred")
            await shows(pilot, app, "No run is followed")
            await pilot.press("a", "enter")
            await shows(pilot, app, "8 traces")


def test_the_workspace_is_left_as_it_was() -> None:
    run = RunFolder.open(Workspace(doubling()).runs, "last")
    assert run.id == "doubling-1"


@piloted
async def test_the_selection_goes_out_to_a_file(tmp_path: Path) -> None:
    app = LocalDistillApp(doubling(), start="select")
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "doubling" in assert_harmless(app))
        await pilot.press("x")
        await until(pilot, lambda: "Export these traces" in assert_harmless(app))
        app.screen.query_one("#field-file", Input).value = str(tmp_path / "kept.jsonl")
        await pilot.press("enter", "enter", "enter", "enter")
        await until(pilot, lambda: "rows as messages" in assert_harmless(app))
        assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == QUESTIONS - 5
