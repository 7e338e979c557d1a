"""Several runs on one score card: who answered the same items is compared, and what is not alike is said."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill import UsageError, Workspace, compare_runs
from localdistill.cli import main
from localdistill.scorecard import ItemResult
from localdistill.scorecard.card import items_to_text
from localdistill.stages.answers import items_of
from localdistill.stages.outputs import AnswersMade, EvaluateOutput, read_output, write_output
from localdistill.workspace.run_folder import RunFolder
from tests.tui.garden import copied


def twin(root: Path, change: Callable[[AnswersMade, tuple[ItemResult, ...]], tuple[ItemResult, ...]]) -> Workspace:
    """The prepared workspace with a second run, `garden-2`, whose answers are changed ones of the first."""
    place = copied(root)
    workspace = Workspace(place)
    shutil.copytree(place / "runs/garden-1", place / "runs/garden-2")
    run = RunFolder(place / "runs/garden-2")
    left = read_output(run, EvaluateOutput)
    made = []
    for one in left.answers:
        artifact = workspace.find_artifact("answers", one.answers)
        assert artifact is not None
        items = items_of(artifact)
        if (changed := change(one, items)) == items:
            made.append(one)
            continue
        digest = f"b2:{len(made):032x}"

        def build(staging: Path, changed: tuple[ItemResult, ...] = changed) -> None:
            (staging / "items.jsonl").write_text(items_to_text(changed))

        workspace.make_artifact("answers", digest, {"label": one.contestant, "inputs": []}, build)
        made.append(replace(one, answers=digest))
    write_output(run, replace(left, answers=tuple(made)))
    return workspace


def test_arms_of_two_runs_are_compared_and_a_base_that_said_the_same_is_one(tmp_path: Path) -> None:
    def all_right(made: AnswersMade, items: tuple[ItemResult, ...]) -> tuple[ItemResult, ...]:
        return tuple(replace(item, score=1.0) for item in items) if made.contestant == "full_trace" else items

    found = compare_runs(twin(tmp_path, all_right), ["garden-1", "garden-2"])
    card = found.cards[0]
    assert [row.name for row in card.rows][:2] == ["base", "garden-1/full_trace"] and len(card.rows) == 7
    between = next(entry for entry in card.comparisons
                   if {entry.first, entry.second} == {"garden-1/full_trace", "garden-2/full_trace"})
    assert between.verdict == "worse" and between.difference < 0
    assert found.notes == () and [card.task for card in found.cards] == ["pantry", "pantry_guard"]


def test_other_items_and_another_base_are_said(tmp_path: Path) -> None:
    def fewer(made: AnswersMade, items: tuple[ItemResult, ...]) -> tuple[ItemResult, ...]:
        return items[:100] if made.task == "pantry" else items

    found = compare_runs(twin(tmp_path, fewer), ["garden-1", "garden-2"], "pantry")
    assert found.cards[0].items == 100 and found.cards[0].base == "garden-1/base"
    assert "compared on the 100 items that all answered (garden-1 300, garden-2 100)" in found.notes[0]
    assert "the bases answered differently" in found.notes[1]


def test_nothing_in_common_is_one_clear_error(tmp_path: Path) -> None:
    workspace = twin(tmp_path, lambda _, items: tuple(replace(item, prompt_id="other " + item.prompt_id)
                                                      for item in items))
    with pytest.raises(UsageError, match="different items of pantry"):
        compare_runs(workspace, ["garden-1", "garden-2"])
    with pytest.raises(UsageError, match="no task called 'sums' in common"):
        compare_runs(workspace, ["garden-1", "garden-2"], "sums")
    with pytest.raises(UsageError, match="two different runs"):
        compare_runs(workspace, ["garden-1", "garden-1"])


def test_the_command_prints_cards(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = twin(tmp_path, lambda _, items: items)
    monkeypatch.setattr(sys, "argv", ["localdistill", "compare", "garden-1", "garden-2", "--json", "--workspace",
                                      str(workspace.root)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and json.loads(capsys.readouterr().out)["runs"] == ["garden-1", "garden-2"]
