"""Score cards of a run, read back: the contest, the forms, what turned, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from localdistill import Scores, Workspace, flipped, score_card
from localdistill.errors import UsageError
from tests.tui.garden import copied, garden


def scores() -> Scores:
    return score_card(Workspace(garden()))


def test_cards_forms_and_questions_of_a_run() -> None:
    found = scores()
    assert found.run_id == "garden-1" and found.best == "full_trace"
    assert [(card.task, card.is_guard, card.forms_of) for card in found.cards] == [
        ("pantry", False, ""), ("pantry_guard", True, "")]
    assert [[row.name for row in card.rows] for card in found.forms] == [
        ["trained", "merged", "F16", "Q8_0", "Q4_K_M"]] * 2
    entry = found.cards[0].comparisons[0]
    items = list(flipped(found, entry))
    assert [item.side for item in items] == ["won"] * len(entry.flips_won) + ["lost"] * len(entry.flips_lost)
    assert all(item.question.endswith(("?", ".")) and item.reference for item in items)
    assert items[0].flip.first_extracted == items[0].reference != items[0].flip.second_extracted


def test_a_run_that_did_not_get_there_has_none(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "runs/garden-1/stages/export.json").unlink()
    assert score_card(Workspace(root)).forms == ()
    (root / "runs/garden-1/stages/evaluate.json").unlink()
    with pytest.raises(UsageError, match="no result of the stage 'evaluate'"):
        score_card(Workspace(root), "garden-1")


def test_a_card_that_was_removed_is_said_to_be_gone(tmp_path: Path) -> None:
    root = copied(tmp_path)
    shutil.rmtree(root / "artifacts/scorecard")
    with pytest.raises(UsageError, match="is gone from this workspace") as caught:
        score_card(Workspace(root))
    assert "localdistill resume garden-1" in caught.value.hint


def test_a_recipe_that_cannot_be_read_costs_only_the_questions(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "runs/garden-1/resolved.json").write_text("{}")
    found = score_card(Workspace(root))
    assert found.questions == {} and len(found.cards) == 2
