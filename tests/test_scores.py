"""Score cards of a run, read back: the contest, the forms, what turned, and what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from localdistill import Scores, Workspace, flipped, score_card
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.seals import sealed, unsealed
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


def test_a_run_that_did_not_get_there_has_none_and_one_whose_result_is_lost_says_so(tmp_path: Path) -> None:
    root = copied(tmp_path)
    for harm, said in ((lambda path: path.write_text("{"), "is damaged: it cannot be read as JSON"),
                       (Path.unlink, "has no result of the stage 'export'")):
        harm(root / "runs/garden-1/stages/export.json")
        found = score_card(Workspace(root))
        assert found.forms == () and said in found.problems[0] and "resume garden-1 makes it again" in found.problems[0]
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


@pytest.mark.parametrize("name", ["scorecard.json", "scorecard.md", "manifest.json"])
def test_a_damaged_card_is_never_shown(tmp_path: Path, name: str) -> None:
    root = copied(tmp_path)
    (path,) = (root / "artifacts/scorecard").glob(f"*/{name}")
    data = bytearray(path.read_bytes() or b" ")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LocalDistillError, match=f"scorecard of run garden-1 is damaged: {name}") as caught:
        score_card(Workspace(root))
    assert "localdistill resume garden-1" in caught.value.hint


@pytest.mark.parametrize(("harm", "said"), [
    (lambda folder: (folder / "measured.json").write_text("{}"), "measured.json has 2 bytes"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json lists no files"),
    (shutil.rmtree, "the export is gone"),
])
def test_forms_that_cannot_be_shown_are_said_to_be_missing(
    tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    root = copied(tmp_path)
    (folder,) = (path for path in (root / "artifacts/export").iterdir() if not path.name.startswith("."))
    harm(folder)
    found = score_card(Workspace(root))
    assert found.cards and not found.forms and said in found.problems[0]


def test_best_is_what_the_cards_say_and_not_what_was_once_written_down(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "runs/garden-1/stages/evaluate.json"
    path.write_text(sealed({**unsealed(path.read_bytes()), "best": "answer_only"}))
    found = score_card(Workspace(root))
    assert found.best == "full_trace" and "better on pantry" in found.why_best
