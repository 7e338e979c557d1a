"""Evaluate: the cards of a run with intervals and verdicts, forms and guard tasks, and the items that turned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.widgets import OptionList

from localdistill import UsageError, Workspace, score_card
from localdistill.core.seals import sealed, unsealed
from localdistill.safety.manifest import read_manifest, write_manifest
from tests.tui.driving import piloted, until
from tests.tui.garden import copied, garden, text_of
from tests.tui.hostile import HOSTILE, LONG, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.screens.evaluate import EvaluatePage
from tui.state import RunView
from tui.widgets.dialogs import ReportDialog


def stands(app: LocalDistillApp) -> bool:
    """A card is drawn."""
    return isinstance(app.screen, EvaluatePage) and app.screen.query_one("#verdicts", OptionList).option_count > 0


def change_card(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first stored card."""
    folder = next(a for a in Workspace(root).list_artifacts() if a.kind == "scorecard").path
    kept = unsealed((folder / "scorecard.json").read_bytes())
    change(kept["cards"][0])
    (folder / "scorecard.json").write_text(sealed(kept))
    write_manifest(folder, read_manifest(folder))


@piloted
async def test_the_card_shows_scores_intervals_and_verdicts_in_words() -> None:
    card = score_card(Workspace(garden())).cards[0]
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app))
        table, verdicts, screen = text_of(app, "#table"), text_of(app, "#verdicts"), screen_text(app)
        for row in card.rows:
            assert f"{100 * row.score:.1f}%" in table and row.name in table
        assert table.count("●") == len(card.rows) and "┤" in table
        assert verdicts.count(" against ") == len(card.comparisons)
        assert {entry.verdict for entry in card.comparisons} <= {w for w in ("better", "worse", "cannot tell") if w
                                                                 in verdicts}
        assert f"sees {100 * card.comparisons[0].detectable:.1f} or more" in verdicts
        assert "One seed per arm" in screen and "finished at limit" in screen, "the note on seeds is on the first page"


@piloted
async def test_what_may_be_memory_and_which_weights_came_out_stand_below_the_scores(tmp_path: Path) -> None:
    root, leak = copied(tmp_path), "LEAK SUSPECTED: full_trace gains +9.0 points here and +1.0 on the twins (fresh)"

    def change(card: dict[str, Any]) -> None:
        card["leaks"] = [leak]
        row = next(row for row in card["rows"] if row["name"] == "full_trace")
        row["kept"] = ["step 2 of 6, development score 50.0 %"]

    change_card(root, change)
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: stands(app))
        table = " ".join(text_of(app, "#table").split())
        assert leak in table and "full_trace: step 2 of 6, development score 50.0 %" in table
        assert "by the same rule for every arm" in table


@piloted
async def test_c_goes_through_guard_task_and_forms() -> None:
    scores = score_card(Workspace(garden()))
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app))
        await pilot.press("c")
        assert "guard task" in text_of(app, "#cards") and f"{scores.cards[1].items} items" in text_of(app, "#cards")
        await pilot.press("c")
        table = text_of(app, "#table")
        assert all(form in table for form in ("trained", "merged", "Q8_0", "Q4_K_M"))
        assert "merged against trained" in text_of(app, "#verdicts")
        await pilot.press("c", "c")
        assert "full_trace against base" in text_of(app, "#verdicts")


@piloted
async def test_enter_on_a_verdict_shows_what_turned_with_both_outputs() -> None:
    scores = score_card(Workspace(garden()))
    entry = scores.cards[0].comparisons[0]
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app))
        app.screen.query_one("#verdicts").focus()
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one("#items").has_focus)
        assert f"won {entry.won}, lost {entry.lost}" in text_of(app, "#turned-title")
        assert "kept" in text_of(app, "#turned-title"), "only the first flips are stored, and that is said"
        flip = entry.flips_won[1]
        await pilot.press("down")
        await until(pilot, lambda: scores.questions[flip.prompt_id] in text_of(app, "#both"))
        both = text_of(app, "#both")
        assert flip.first_output.strip() in both and flip.second_output.strip() in both
        assert both.index("✓ right") < both.index("✗ wrong")
        await pilot.press("f")
        assert app.screen.query_one("#verdicts").has_focus


@piloted
async def test_outputs_of_models_cannot_steer_the_terminal(tmp_path: Path) -> None:
    root = copied(tmp_path)

    def turn(card: dict[str, Any]) -> None:
        for flip in card["comparisons"][0]["flips_won"]:
            flip.update(first_output=HOSTILE, second_output=LONG, first_extracted=HOSTILE)
        card["rows"][1]["stopped_early"] = HOSTILE

    change_card(root, turn)
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: stands(app) and "right to left" in text_of(app, "#both"))
        assert "was stopped early" in assert_harmless(app)


@piloted
async def test_a_run_without_a_card_and_a_card_that_is_gone_say_so(tmp_path: Path) -> None:
    root = copied(tmp_path)
    card = next(a for a in Workspace(root).list_artifacts() if a.kind == "scorecard").path
    shutil.rmtree(card)
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "is gone from this workspace" in screen_text(app))
        assert "localdistill resume garden-1" in screen_text(app)
    (root / "runs/garden-1/stages/evaluate.json").unlink()
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "has no result of the stage" in screen_text(app))


@piloted
async def test_an_empty_workspace_says_what_to_press(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="evaluate")
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "No score card yet" in screen_text(app))
        await pilot.press("c", "f", "x", "u")
        assert "s starts a recipe" in screen_text(app)


@piloted
async def test_with_several_seeds_an_output_says_whose_it_is(tmp_path: Path) -> None:
    root = copied(tmp_path)
    change_card(root, lambda card: [row.update(seeds=[0, 1], seed_scores=[row["score"]] * 2) for row in card["rows"]
                                    if row["name"] == "full_trace"])
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: stands(app) and "✓ right in half or more of 2 seeds  seed 0 wrote:" in text_of(
            app, "#both"))
        assert "✗ wrong  taken for the answer" in text_of(app, "#both"), "the base has one seed"


@piloted
async def test_a_run_without_a_card_leaves_nothing_of_the_one_before() -> None:
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: stands(app))
        await pilot.press("f")
        page = app.screen
        assert isinstance(page, EvaluatePage)
        page._missing(RunView("another-1", state="finished"), UsageError("nothing was evaluated", "start it"))
        for name in ("#verdicts", "#items"):
            assert page.query_one(name, OptionList).option_count == 0
        await pilot.press("f", "down", "enter", "c", "down", "enter")
        await until(pilot, lambda: "nothing was evaluated" in screen_text(app))


@piloted
async def test_what_a_task_measured_beside_the_score_is_shown(tmp_path: Path) -> None:
    root = copied(tmp_path)

    def measured(card: dict[str, Any]) -> None:
        card["metrics"] = {"margin": "Nats between."}
        for row in card["rows"]:
            row["metrics"], row["undecided"] = [{"name": "margin", "mean": 1.2345678, "items": 9}], 3

    change_card(root, measured)
    app = LocalDistillApp(root, start="evaluate")
    async with app.run_test(size=(80, 40)) as pilot:
        await until(pilot, lambda: stands(app))
        assert "margin" in text_of(app, "#scope") and "1.235" in text_of(app, "#scope")
        assert "Nats between." in text_of(app, "#scope")
        assert "3 of its" in text_of(app, "#table") and "could not be judged" in text_of(app, "#table")


@piloted
async def test_what_went_wrong_is_counted_and_items_are_compared_with_the_training() -> None:
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: stands(app) and app.screen.query_one("#items", OptionList).option_count > 0)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "wrong" in screen_text(app))
        assert "full_trace" in screen_text(app) and "right" in screen_text(app)
        await pilot.press("escape", "n")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "item" in screen_text(app)
                    and "comparing" not in screen_text(app))


@piloted
async def test_the_result_comes_first_and_can_be_copied() -> None:
    app = LocalDistillApp(garden(), start="evaluate")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: stands(app))
        assert "is better than the base on pantry" in text_of(app, "#result")
        await pilot.press("y")
        assert app.clipboard.startswith("**full_trace is better")
        await pilot.press("c")
        await until(pilot, lambda: not app.screen.query_one("#result").display)
