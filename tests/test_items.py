"""Items of an evaluation: whose answers, why they were wrong, how two differ, what they are like in the training."""

from __future__ import annotations

import json
import sys

import pytest

from localdistill import UsageError, Workspace, answers_differ, causes_of, nearest_rows, run_items, score_card
from localdistill.api.runs.items import cause_of
from localdistill.cli import main
from localdistill.scorecard import ItemResult
from tests.tui.garden import garden


def item(score: float = 0.0, output: str = "The answer is 7.", extracted: str = "7", cut: bool = False, error: str = "",
         undecided: str = "") -> ItemResult:
    """One reply."""
    return ItemResult("p", score, not cut, cut, 10, extracted, output, error=error, undecided=undecided)


@pytest.mark.parametrize(("reply", "cause"), [
    (item(1.0), "right"),
    (item(1.0, cut=True), "right"),
    (item(), "wrong"),
    (item(cut=True), "cut"),
    (item(output="and so on, " * 200, cut=True), "loop"),
    (item(output="I'm sorry, but I can't help with that.", extracted=""), "refusal"),
    (item(output="As an AI, I cannot answer this.", extracted=""), "refusal"),
    (item(output="I can see that it is 7."), "wrong"),
    (item(output="Well.", extracted=""), "format"),
    (item(error="the prompt does not fit"), "no reply"),
    (item(undecided="no reference"), "not judged"),
])
def test_each_wrong_answer_has_a_cause(reply: ItemResult, cause: str) -> None:
    assert cause_of(reply) == cause


def test_counts_of_causes_agree_with_the_score_card() -> None:
    counted = causes_of(run_items(Workspace(garden())))
    for card in score_card(Workspace(garden())).cards:
        for row in card.rows:
            assert counted[card.task, row.name]["right"] == round(row.score * row.items)
            assert counted[card.task, row.name].total() == row.items


def test_one_item_shows_both_answers_their_difference_and_what_it_is_like() -> None:
    workspace = Workspace(garden())
    flip = score_card(workspace).cards[0].comparisons[0].flips_won[0]
    mine, base = (next(one for one in run_items(workspace, task="pantry", contestant=name)
                       if one.prompt_id == flip.prompt_id) for name in ("full_trace", "base"))
    assert (mine.cause, base.cause) == ("right", "wrong") and mine.output == flip.first_output
    assert f"-{base.output}" in answers_differ(mine, base) and f"+{mine.output}" in answers_differ(mine, base)
    assert answers_differ(base, base) == ""
    trained = "Ada has 900 apples and picks 3 more. How many apples has Ada now?"
    near = nearest_rows(workspace, "last", trained)
    assert near[0].shared == 1.0 and near[0].question.startswith("Ada has ") and len(near) == 3
    assert nearest_rows(workspace, "last", "Nothing of this sort.") == []


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no task 'pantri'"):
        run_items(Workspace(garden()), task="pantri")
    with pytest.raises(UsageError, match="no contestant 'nobody'"):
        run_items(Workspace(garden()), contestant="nobody")


def test_the_command_counts_lists_and_shows(capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["localdistill", "items", *arguments, "--workspace", str(garden())])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert "full_trace" in call() and "right" in call().splitlines()[0]
    wrong = json.loads(call("--task", "pantry", "--arm", "base", "--cause", "wrong", "--json"))
    assert wrong and {one["cause"] for one in wrong} == {"wrong"} and {one["contestant"] for one in wrong} == {"base"}
    shown = call("--task", "pantry", "--item", wrong[0]["prompt_id"], "--arm", "full_trace")
    assert wrong[0]["question"] in shown and "base, seed 0: wrong" in shown and "full_trace, seed 0" in shown
