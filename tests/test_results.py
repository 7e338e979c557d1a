"""The result of a run: one sentence that the score cards carry, one table, and a next step that fits."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill import (
    RunFolder,
    UsageError,
    Workspace,
    result_to_markdown,
    result_to_text,
    run_result,
    tuning_of,
    tuning_to_text,
)
from localdistill.cli import main, running
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCard, build_score_card
from localdistill.scorecard.result import result_of_cards
from localdistill.stages.outputs import TrainOutput, TuneOutput, read_output, write_output
from localdistill.stages.tuning import Setting, Try, TuningResult
from localdistill.trainers.report import Recovery, TrainingResult
from tests.tui.garden import copied, garden
from tests.tui.prepared import begun


def card(task: str, right: Mapping[str, int | Sequence[int]], guard: bool = False, of: int = 100,
         stopped: str = "", margin: float = 0.05) -> ScoreCard:
    """Models that get the first so many of `of` items right, with a seed for every number."""
    models = []
    for name, counts in right.items():
        for seed, count in enumerate([counts] if isinstance(counts, int) else counts):
            items = tuple(ItemResult(f"p{n}", float(n < count), True, False, 10) for n in range(of))
            models.append(ContestantResult(name, seed, "f", False, 100, "time" if name == stopped else "", items))
    return build_score_card(models, "base", task, "exact", guard, margin=margin)


def test_an_arm_that_gains_and_whose_guards_hold_is_the_result() -> None:
    found = result_of_cards([card("sums", {"base": 140, "a": 420, "b": 300}, of=1000),
                             card("manners", {"base": 910, "a": 905, "b": 912}, True, of=1000)],
                            {"a": 61.0, "b": 10.0}, "r-1", "mine.toml")
    assert (found.outcome, found.arm) == ("better", "a")
    assert found.sentence.startswith("a is better than the base on sums: 42.0 % against 14.0 %, +28.0 points (+")
    assert "p < 0.001" in found.sentence and "The guards hold (manners -0.5, at worst -" in found.sentence
    assert found.next is not None and found.next.command == "run mine.toml --seeds 3"
    assert [row.name for row in found.rows] == ["base", "a", "b"]
    text = result_to_text(found)
    assert "1 min 01 s" in text and "+28.0 (+" in text and "holds" in text and "p < 0.0001 better" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_gain_that_costs_a_guard_is_harm() -> None:
    found = result_of_cards([card("sums", {"base": 14, "a": 42}), card("manners", {"base": 91, "a": 22}, True)],
                            run="r-1")
    assert (found.outcome, found.arm) == ("harm", "a") and "it does harm: -69.0 points on manners" in found.sentence
    assert found.next is not None and found.next.command == "scores r-1 --flips a"
    assert "HARM" in result_to_text(found)


def test_a_gain_whose_guard_is_too_small_to_say_cannot_be_told() -> None:
    cards = [card("sums", {"base": 14, "a": 42}), card("manners", {"base": 91, "a": 90}, True)]
    found = result_of_cards(cards, recipe="mine.toml")
    assert found.outcome == "cannot tell" and "is not ruled out, and 5 are allowed" in found.sentence
    assert found.next is not None and "times as many items of manners" in found.next.text
    assert "not shown" in result_to_text(found)


def test_what_a_guard_may_lose_is_the_margin_of_the_recipe() -> None:
    sums = card("sums", {"base": 14, "a": 42})
    assert result_of_cards([sums, card("m", {"base": 91, "a": 90}, True, margin=0.2)]).outcome == "better"
    worse_within = card("m", {"base": 9100, "a": 9000}, True, of=10_000)
    assert worse_within.comparisons[0].verdict == "worse"
    assert result_of_cards([sums, worse_within]).outcome == "better", "a small known loss is allowed"


def test_a_tie_says_what_could_have_been_seen_and_how_many_items_would_tell() -> None:
    found = result_of_cards([card("sums", {"base": 30, "a": 36, "b": 31})], recipe="mine.toml")
    assert found.outcome == "cannot tell" and found.arm == "a"
    assert "No arm can be told from the base on sums" in found.sentence and "would have been seen" in found.sentence
    assert found.next is not None and "items would show it (now 100)" in found.next.text


def test_all_worse_nothing_compared_and_no_target_are_said() -> None:
    assert result_of_cards([card("sums", {"base": 60, "a": 20})]).outcome == "worse"
    stopped = result_of_cards([card("sums", {"base": 10, "a": 90}, stopped="a")])
    assert stopped.outcome == "not compared" and "stopped early (time)" in result_to_text(stopped)
    assert "every task is a guard" in result_of_cards([card("m", {"base": 1}, True)]).sentence
    assert "nothing was evaluated" in result_of_cards([]).sentence


def test_without_a_guard_the_cost_elsewhere_is_not_known() -> None:
    found = result_of_cards([card("sums", {"base": 14, "a": 42})])
    assert "what it cost elsewhere is not known" in found.sentence
    assert found.next is not None and "guard task" in found.next.text


def test_with_enough_seeds_the_next_step_is_to_use_it() -> None:
    cards = [card("sums", {"base": 140, "a": (420, 430, 410)}, of=1000),
             card("manners", {"base": 900, "a": (900, 901, 899)}, True, of=1000)]
    assert result_of_cards(cards, recipe="mine.toml").next == result_of_cards(cards, recipe="mine.toml", run="r").next
    found = result_of_cards(cards, run="r-1", recipe="mine.toml", files=3)
    assert found.outcome == "better" and found.next is not None and found.next.command == "chat r-1"


def test_the_result_of_a_run_is_the_same_everywhere(capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["localdistill", "result", *arguments, "--workspace", str(garden())])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    found = run_result(Workspace(garden()))
    assert found.rows[0].name == "base" and found.rows[1].training_s == 61.0
    assert call() == result_to_text(found) and call("--markdown") == result_to_markdown(found)
    assert json.loads(call("garden-1", "--json"))["outcome"] == found.outcome


def test_a_result_says_which_weights_came_out_and_how_far_rows_are_known_by_heart(tmp_path: Path) -> None:
    root = copied(tmp_path)
    run = RunFolder(root / "runs/garden-1")
    adapters = read_output(run, TrainOutput).adapters
    lines = {arm: (replace(own[0], result=replace(own[0].result, token_accuracy=(0.5, 0.995))),)
             for arm, own in adapters.items()}
    write_output(run, TrainOutput(lines))
    text = result_to_text(run_result(Workspace(root)))
    assert "99.5 % of the trained tokens ranked first in the last epoch (50.0 % in the first), saturated" in " ".join(
        text.split())
    recovery = Recovery("the loss exploded", 12, 6, 0.1)
    told = TrainingResult(20, 1.0, 1, 0.1, 1.0, 1, recovery=recovery)
    row = card("sums", {"base": 10, "a": 50})
    kept = replace(row, rows=tuple(replace(one, kept=(told.came_out,)) if one.name == "a" else one
                                   for one in row.rows))
    shown = " ".join(result_to_text(result_of_cards([kept])).split())
    assert "a: the loss exploded; it went back to step 6 and on with 0.1 of the learning rate" in shown
    assert "Development items" not in shown, "none were asked"
    assert TrainingResult.from_bytes(told.to_bytes(), "x") == told


def test_a_result_says_where_its_learning_rate_comes_from(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = copied(tmp_path)
    run = RunFolder(root / "runs/garden-1")
    tried = tuple(Try(1, Setting(rate, 16, 2.0), 40, 0.5, score, 30.0, score > 0.4) for rate, score in
                  ((1e-3, 0.5), (3e-3, 0.25)))
    tried = (*tried, Try(1, Setting(9e-3, 16, 2.0), 9, None, None, 3.0, False, "the loss exploded"))
    write_output(run, TuneOutput("b2:t", TuningResult("a", tried[0].setting, 2e-3, 1e-3, ("why",), tried, 720.0)))
    assert run_result(Workspace(root)).tuned == "", "its recipe states a rate"
    recipe = run.recipe()
    assert recipe.train is not None
    train = recipe.train.model_copy(update={"options": {**recipe.train.options, "learning_rate": "tuned"}})
    tuned = recipe.model_copy(update={"train": train})
    monkeypatch.setattr(RunFolder, "recipe", lambda self: tuned)
    assert "learning rate 1.0e-03 by tuning on a: 3 tries, 12 min" in " ".join(
        result_to_text(run_result(Workspace(root))).split())
    text = tuning_to_text(tuning_of(Workspace(root), "garden-1"))
    rows = [line.split() for line in text.splitlines() if "e-03  " in line]
    assert [(row[1], row[-1]) for row in rows] == [("1.0e-03", "chosen"), ("3.0e-03", "dropped"),
                                                    ("9.0e-03", "astray")] and "why" in text
    assert "0.009, rank 16, 2 epochs in rung 1: the loss exploded" in text and max(map(len, text.splitlines())) <= 100
    monkeypatch.setattr(RunFolder, "request", lambda self: {"stages": ["format", "tune"]})
    running._say_finished(run, Workspace(root))
    assert capsys.readouterr().out == "\n" + text, "the command tune ends with the table"
    running._finished_json(run, Workspace(root))
    assert json.loads(capsys.readouterr().out)["tuning"]["chosen"]["learning_rate"] == 1e-3


def test_a_run_without_a_score_card_has_no_result(tmp_path: Path) -> None:
    workspace, _ = begun(tmp_path)
    with pytest.raises(UsageError):
        run_result(workspace)
