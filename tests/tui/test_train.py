"""Train: the curves of a run that ended, other curves, the log, several seeds, adapters that were used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill import ArtifactWritten, Counted, Measured, RunFolder, RunStarted, StageStarted
from localdistill.stages.outputs import TuneOutput, write_output
from localdistill.stages.tuning import Setting, Try, TuningResult
from tests.old_workspaces import packed, unpack
from tests.tui.driving import piloted, until
from tests.tui.garden import copied, garden, text_of
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.screens.train import TrainPage, arms_of
from tui.state import Curve, RunView, reduce
from tui.widgets.line_chart import LineChart


def arms(app: LocalDistillApp) -> str:
    return text_of(app, "#arms")


@piloted
async def test_curves_arms_memory_and_log_of_a_finished_run() -> None:
    app = LocalDistillApp(garden(), start="train")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "trained" in arms(app))
        await until(pilot, lambda: "planned" in text_of(app, "#plan"))
        assert arms(app).count("✓ trained") == 3 and "6,700" in arms(app)
        shown = screen_text(app)
        assert all(f" {letter}" in shown for letter in "ABC") and "⠀" not in shown
        assert sum(0x2800 < ord(char) < 0x2900 for char in shown) > 60
        assert "3 arms" in shown and "+ adapter full_trace, seed 0" in shown
        assert [len(line.points) for line in app.screen.query_one(LineChart).lines] == [40, 40, 40]


@piloted
async def test_g_shows_the_learning_rate_and_l_the_log_where_there_is_no_room_for_both() -> None:
    app = LocalDistillApp(garden(), start="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "trained" in arms(app))
        before = app.screen.query_one(LineChart).lines
        await pilot.press("g")
        assert "learning rate" in text_of(app, "#curve-title")
        after = app.screen.query_one(LineChart).lines
        assert max(value for _, value in after[0].points) == pytest.approx(3e-3, rel=0.1) and after != before
        assert not app.screen.query_one("#said-log").display or not app.screen.query_one("#said-log").region.height
        await pilot.press("l")
        await until(pilot, lambda: "+ adapter full_trace, seed 0" in screen_text(app))
        assert not app.screen.query_one("#curves").region.height
        await pilot.resize_terminal(140, 45)
        await until(pilot, lambda: app.screen.query_one("#curves").region.height > 20)


@piloted
async def test_development_scores_are_a_curve_and_a_column_where_there_are_any(tmp_path: Path) -> None:
    root = copied(tmp_path)
    events = root / "runs/garden-1/events.jsonl"
    points = [{"kind": "measured", **of("full_trace"), "name": "dev score", "value": value, "step": step}
              for step, value in ((10, 0.25), (20, 0.5), (30, 0.375))]
    events.write_text(events.read_text() + "".join(json.dumps(point) + "\n" for point in points))
    app = LocalDistillApp(root, start="train")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "37.5, 50.0" in arms(app))
        assert "dev, best" in arms(app)
        await pilot.press("g")
        await until(pilot, lambda: "development score" in text_of(app, "#curve-title"))
        drawn = {series.name: [value for _, value in series.points] for series in app.screen.query_one(LineChart).lines}
        assert drawn["full_trace"] == [0.25, 0.5, 0.375] and drawn["answer_only"] == []


@piloted
async def test_what_is_known_by_heart_is_a_curve_and_a_line_where_it_was_counted(tmp_path: Path) -> None:
    root = copied(tmp_path)
    events = root / "runs/garden-1/events.jsonl"
    points = [{"kind": "measured", **of("full_trace"), "name": "token_accuracy", "value": value, "step": step}
              for step, value in ((10, 0.5), (20, 0.75), (30, 0.992))]
    events.write_text(events.read_text() + "".join(json.dumps(point) + "\n" for point in points))
    app = LocalDistillApp(root, start="train")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "ranks 99.2 %" in text_of(app, "#plan"))
        await pilot.press("g")
        await until(pilot, lambda: "trained tokens ranked first" in text_of(app, "#curve-title"))
        drawn = {series.name: [value for _, value in series.points] for series in app.screen.query_one(LineChart).lines}
        assert drawn["full_trace"] == [0.5, 0.75, 0.992] and drawn["answer_only"] == []


@piloted
async def test_t_shows_every_try_of_a_tuning_and_says_where_there_was_none(tmp_path: Path) -> None:
    root = copied(tmp_path)
    app = LocalDistillApp(root, start="train")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "trained" in arms(app))
        await pilot.press("t")
        await until(pilot, lambda: "has no result of the stage 'tune'" in screen_text(app))
        await pilot.press("escape")
        tries = (Try(1, Setting(1e-3, 16, 2.0), 40, 0.5, 0.5, 30.0, True),
                 Try(1, Setting(3e-3, 16, 2.0), 9, None, None, 8.0, False, HOSTILE))
        write_output(RunFolder(root / "runs/garden-1"),
                     TuneOutput("b2:t", TuningResult(HOSTILE, tries[0].setting, 2e-3, 1e-3, (HOSTILE,), tries, 38.0)))
        await pilot.press("t")
        await until(pilot, lambda: "rate 1.0e-03, rank 16, epochs 2, 40 steps" in screen_text(app))
        assert "score 50.0 %" in assert_harmless(app)


@piloted
async def test_an_arm_with_a_hostile_name_and_a_loss_that_is_no_number(tmp_path: Path) -> None:
    root = copied(tmp_path)
    facts = [{"kind": "run_started", "run_id": "garden-1", "recipe": "garden", "stages": ["train"]},
             {"kind": "stage_started", "stage": "train"},
             *({"kind": "measured", "stage": "train", "name": "loss", "arm": HOSTILE, "step": step,
                "value": float("nan") if step == 3 else 1.0} for step in range(1, 6)),
             {"kind": "warned", "stage": "train", "text": HOSTILE, "hint": HOSTILE}]
    (root / "runs/garden-1/events.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    app = LocalDistillApp(root, start="train")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainPage) and "1.0000" in arms(app))
        assert "×" in assert_harmless(app)


@piloted
async def test_an_empty_workspace_says_what_to_press(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Nothing was trained here yet" in screen_text(app))
        await pilot.press("x", "u", "g", "l")
        assert "s starts a recipe" in screen_text(app)


def view_of(*items: object) -> RunView:
    view = RunView("r-1")
    for item in (RunStarted("r-1", "r", ("train",)), StageStarted("train"), *items):
        view = reduce(view, item)  # type: ignore[arg-type]
    return view


def of(arm: str, seed: int = 0) -> dict[str, Any]:
    return {"stage": "train", "arm": arm, "seed": seed}


def test_arms_are_done_under_way_or_to_come() -> None:
    planned = [Counted("dataset", {"rows": 1}, stage="format", arm=name) for name in "abc"]
    view = view_of(*planned, Measured("loss", 1.0, 1, **of("a")), ArtifactWritten("adapter", "b2:1", "x", **of("a")),
                   Measured("loss", 1.0, 1, **of("b")))
    assert [(arm.title, arm.state) for arm in arms_of(view)] == [("a", "trained"), ("b", "trains"), ("c", "waits")]


def test_seeds_are_named_only_where_there_are_several() -> None:
    both = view_of(ArtifactWritten("adapter", "b2:1", "x", **of("a")), Measured("loss", 1.0, 1, **of("a", 1)))
    assert [(arm.title, arm.state) for arm in arms_of(both)] == [("a, seed 0", "trained"), ("a, seed 1", "trains")]


def test_arms_of_a_run_of_an_older_version_are_called_what_their_adapters_are_called() -> None:
    planned = [Counted("dataset", {"rows": 1}, stage="format", arm=name) for name in "ab"]
    begun = Counted("dataset", {"rows": 1}, stage="train", arm="a")
    view = view_of(*planned, begun, Measured("loss", 1.0, 1, stage="train", arm="a"),
                   ArtifactWritten("adapter", "b2:1", "a, seed 0"))
    assert [(arm.title, arm.state) for arm in arms_of(view)] == [("a, seed 0", "trained"), ("b", "waits")]


@pytest.mark.parametrize("archive", packed(), ids=lambda path: path.name)
def test_the_trainings_of_a_run_that_an_older_version_wrote(archive: Path, tmp_path: Path) -> None:
    run, view = RunFolder(unpack(archive, tmp_path) / "runs" / "chain-1"), RunView("chain-1")
    for event, _ in run.events():
        view = reduce(view, event)
    assert view.damaged == 0 and run.damaged_lines() == 0
    found = {arm.title: (arm.state, len(view.series[Curve("train", arm.name, arm.seed, "", "loss")]))
             for arm in arms_of(view)}
    assert found == {f"{name}, seed 0": ("trained", 3) for name in ("original", "summary", "full")}


@piloted
async def test_adapters_that_were_used_again_have_no_curves_and_say_so(tmp_path: Path) -> None:
    root = copied(tmp_path)
    events = root / "runs/garden-1/events.jsonl"
    kept = [text for text in events.read_text().splitlines() if '"measured"' not in text]
    events.write_text("\n".join(kept) + "\n")
    app = LocalDistillApp(root, start="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "an earlier run trained these adapters" in screen_text(app))
