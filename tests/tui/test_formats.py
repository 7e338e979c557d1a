from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from localdistill import RunFolder, Workspace, open_store, wait
from localdistill.core.records import Fact
from tests.tui.chain import QUESTIONS, doubling, empty, hostile
from tests.tui.driving import piloted, until
from tests.tui.hostile import assert_harmless
from tui.app import LocalDistillApp
from tui.widgets.histogram import axis, chart, counted


async def shows(pilot: Pilot[None], app: LocalDistillApp, text: str) -> str:
    """The screen's text once it holds `text`; everything on it was harmless."""
    await until(pilot, lambda: text in assert_harmless(app))
    return assert_harmless(app)


@piloted
async def test_on_a_narrow_screen_one_format_at_a_time_and_the_arrows_turn() -> None:
    app = LocalDistillApp(doubling(), start="formats")
    async with app.run_test(size=(80, 24)) as pilot:
        text = await shows(pilot, app, "thinks: no")
        assert "short" in text and "<think>" not in text
        assert "░ read only" in text and "█ trained" in text
        assert f"trace 1 of {QUESTIONS - 5}" in text
        await pilot.press("right")
        text = await shows(pilot, app, "thinks: yes")
        assert "format full_trace" in text
        await pilot.press("right", "right", "right", "right", "left")
        text = await shows(pilot, app, "reasoning_then_answer")
        assert "no arm uses this format" in text or "no row" in text


@piloted
async def test_on_a_wide_screen_formats_stand_side_by_side() -> None:
    app = LocalDistillApp(doubling(), start="formats")
    async with app.run_test(size=(140, 45)) as pilot:
        text = await shows(pilot, app, "thinks: yes")
        assert text.count("thinks: ") + text.count("✗ no row") == 3
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: assert_harmless(app).count("thinks: ") == 1)


@piloted
async def test_the_lengths_of_the_datasets_against_the_limit() -> None:
    app = LocalDistillApp(doubling(), start="formats")
    async with app.run_test(size=(80, 24)) as pilot:
        text = await shows(pilot, app, f"{QUESTIONS - 5} rows")
        assert "limit 64" in text
        await pilot.press("l")
        await until(pilot, lambda: "limit 64" not in assert_harmless(app))


@piloted
async def test_n_shows_the_next_trace_and_i_one_by_its_id() -> None:
    app = LocalDistillApp(doubling(), start="formats")
    run = RunFolder.open(Workspace(doubling()).runs, "doubling-1")
    ids = run.ids("select")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, ids[0])
        await pilot.press("n")
        await shows(pilot, app, ids[1])
        await pilot.press("b", "b")
        await shows(pilot, app, ids[-1])
        await pilot.press("i", *ids[4][3:15], "enter")
        await shows(pilot, app, "trace 5 of")


@piloted
async def test_a_wrong_answer_is_marked_and_shown_with_what_it_is_seen_together(tmp_path: Path) -> None:
    root = Workspace(shutil.copytree(doubling(), tmp_path / "doubling"))
    store = open_store(root)
    right = next(store.traces([RunFolder.open(root.runs, "doubling-1").ids("select")[0]]))
    store.add_traces([replace(right, id="b2:77770000", answer="The answer is 3.", sample_index=1)])
    store.add_facts([Fact("b2:77770000", "math", value=0.0, passed=False, reason="3 is wrong")])
    app = LocalDistillApp(root.root, start="formats")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, right.id)
        await pilot.press("i", *"7777", "enter")
        await shows(pilot, app, f"trace 1 of {QUESTIONS - 5}  7777")
        await pilot.press("right", "right", "right")
        text = await shows(pilot, app, "shown as what not to do")
        assert f"seen together with {right.id}" in " ".join(text.split())


@piloted
async def test_w_runs_the_recipe_up_to_its_datasets(tmp_path: Path) -> None:
    root = Path(shutil.copytree(doubling(), tmp_path / "doubling"))
    app = LocalDistillApp(root, start="formats")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "thinks: no")
        await pilot.press("w")
        await until(pilot, lambda: (root / "runs" / "doubling-2" / "status.json").exists())
        run = RunFolder.open(root / "runs", "doubling-2")
        assert run.request()["stages"][-1] == "format"
        await until(pilot, lambda: not run.is_alive())
        assert wait(run).state == "finished"
        await shows(pilot, app, "doubling-2: trace 1")


@piloted
async def test_an_empty_workspace_says_what_to_do() -> None:
    app = LocalDistillApp(empty(), start="formats")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "No traces yet")
        await pilot.press("n", "b", "right", "l", "m", "w")
        await shows(pilot, app, "No traces yet")


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
def test_hostile_traces_never_steer_the_terminal(size: tuple[int, int]) -> None:
    @piloted
    async def driven() -> None:
        app = LocalDistillApp(hostile(), start="formats")
        async with app.run_test(size=size) as pilot:
            await shows(pilot, app, "trace 1 of 8")
            await shows(pilot, app, "✗ no row")
            for number in (2, 3, 4):
                await pilot.press("n")
                await shows(pilot, app, f"trace {number} of 8")
                if number == 2:
                    assert "trained" in await shows(pilot, app, "read only")
            await pilot.press("i", *"long", "enter")
            await shows(pilot, app, "trace 7 of 8")
            await pilot.press("m", "right", "end")
            assert_harmless(app)

    driven()


def test_a_chart_shows_every_bin_that_holds_something() -> None:
    counts = counted([1, 1, 2, 50, 99, 500], 10, 100)
    assert counts == [3, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert chart(counts, 1) == ["█    ▃   ▅"]
    tall = chart([1000, 1], 4)
    assert tall == ["█ ", "█ ", "█ ", "█▁"]
    assert chart([], 2) == ["", ""] and chart([0, 0], 1) == ["  "]


def test_the_limit_stands_where_it_belongs() -> None:
    assert axis(10, 100, 50) == "─────┤────"
    assert axis(10, 100, 100) == "─────────┤"
    assert axis(4, 100, 0) == "────"


@piloted
async def test_the_training_rows_of_the_arm_in_front_go_out_to_a_file(tmp_path: Path) -> None:
    app = LocalDistillApp(doubling(), start="formats")
    async with app.run_test(size=(100, 40)) as pilot:
        await shows(pilot, app, "thinks: no")
        await pilot.press("x")
        await shows(pilot, app, "Export the training rows of an arm")
        assert app.screen.query_one("#field-arm", Input).value == "short"
        app.screen.query_one("#field-arm", Input).value = "shor"
        app.screen.query_one("#field-file", Input).value = str(tmp_path / "rows.jsonl")
        app.screen.query_one("#field-layout", Input).value = "tokens"
        await pilot.press(*["enter"] * 5)
        await shows(pilot, app, "has no arm 'shor'; did you mean")
        assert not (tmp_path / "rows.jsonl").exists()
        await pilot.press("escape", "x")
        await shows(pilot, app, "Export the training rows of an arm")
        app.screen.query_one("#field-file", Input).value = str(tmp_path / "rows.jsonl")
        app.screen.query_one("#field-layout", Input).value = "tokens"
        await pilot.press(*["enter"] * 5)
        await shows(pilot, app, "rows as tokens")
    assert '"labels": [-100' in (tmp_path / "rows.jsonl").read_text().splitlines()[0]


@piloted
async def test_without_datasets_there_are_no_training_rows_to_write() -> None:
    app = LocalDistillApp(empty(), start="formats")
    async with app.run_test(size=(100, 40)) as pilot:
        await shows(pilot, app, "No traces yet")
        await pilot.press("x")
        await until(pilot, lambda: any("no training rows to write" in note.message for note in app._notifications))
