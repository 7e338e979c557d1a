"""Tasks are asked in their own way: several samples of an item, and likelihood of given answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localdistill import run_items, score_card, to_text
from localdistill.core.records import Request, Sampling
from localdistill.stages import evaluate
from localdistill.stages.benchmarking import BASE, benches
from localdistill.stages.checking import check_recipe
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of
from localdistill.stages.outputs import EvaluateOutput, read_output
from localdistill.tasks import TASKS
from localdistill.tasks.base import Scored
from localdistill.tasks.mmlu import MmluTask
from tests.doors import run_samples
from tests.stages.test_collecting import listening
from tests.tiny_models import tiny_model
from tests.toys import listed
from tests.widening.drawn import DrawnTask
from tests.widening.likelier import LikelierTask

ROWS = [{"messages": [{"role": "user", "content": f"{n} + 1?"}], "reference": str(n + 1)} for n in (1, 2, 3)]
CHOICES: Sequence[Mapping[str, Any]] = [
    {"question": f"{n} + 1?", "subject": "sums", "choices": [str(n + 1), "none of them"], "answer": "AB"[n % 2]}
    for n in (1, 2, 3)]
TURN = {"role": "user", "content": "1 + 1?"}


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (DrawnTask, LikelierTask):
        listed(monkeypatch, TASKS, cls.name, cls)


def evaluated(folder: Path, task: str, more: str = "",
              rows: Sequence[Mapping[str, Any]] = ROWS) -> tuple[StageContext, Callable[[], Any]]:
    """A run that only evaluates the untrained student on `task`."""
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rows.jsonl").write_text(json.dumps({"messages": [TURN, {"role": "assistant", "content": "2"}]}) + "\n")
    tiny_model(folder / "student", "llama", hidden=32)
    text = (f'name = "kinds"\n[traces]\nown = {{ files = ["rows.jsonl"] }}\n[student]\nmodel = "student"\n[evaluate]\n'
            f'max_tokens = 5\nexclude_contaminated = false\n[[evaluate.task]]\nuse = "{task}"\n'
            f'path = "items.jsonl"\n{more}')
    context = listening(folder, text, "evaluate")

    def answers() -> Any:
        [bench] = benches(context)
        return answers_of(context, bench, BASE).items

    return context, answers


@pytest.mark.parametrize("name", ["drawn", "likelier"])
def test_their_samples_hold(name: str, tmp_path: Path) -> None:
    run_samples(TASKS, name, tmp_path)


def test_an_item_with_several_samples_is_scored_once_by_all_of_them(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DrawnTask, "score", lambda self, prompt, replies, judge: Scored(
        len({reply.raw for reply in replies}) / 8, metrics={"replies": len(replies)}))
    _, answers = evaluated(tmp_path, "drawn")
    items = answers()
    assert len(items) == 3 and all(item.metrics == {"replies": 4} for item in items)
    assert all(0.25 <= item.score <= 0.5 for item in items), "the samples of an item differ"
    assert answers() == items, "what is kept is not asked again, and comes back whole"


def test_an_item_by_likelihood_needs_no_grader_and_writes_nothing(tmp_path: Path) -> None:
    context, answers = evaluated(tmp_path, "likelier")
    assert check_recipe(context.recipe, tmp_path) == []
    items = answers()
    assert len(items) == 3 and all(item.finished and not item.hit_limit and item.answer_tokens == 0 for item in items)
    for item in items:
        first, second = (float(line.split()[0]) for line in item.output.splitlines())
        assert item.score == float(first > second) and item.metrics["margin"] == pytest.approx(first - second, abs=1e-3)
    evaluate.run(context)
    [card] = score_card(context.workspace, context.run.id).cards
    [metric] = card.row("base").metrics
    assert (metric.name, metric.items) == ("margin", 3) and "the likelier one" in to_text(card)
    assert metric.mean == pytest.approx(sum(item.metrics["margin"] for item in items) / 3)


def test_choices_by_likelihood_say_so_on_the_card_and_are_not_scored_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, answers = evaluated(tmp_path, "mmlu", 'by = "likelihood"\nof = "texts"\nnormalised = "length"', CHOICES)
    assert check_recipe(context.recipe, tmp_path) == []
    items = answers()
    assert {item.category for item in items} == {"sums"} and all(item.extracted[:3] in ("A. ", "B. ") for item in items)
    for row, item in zip(CHOICES, items):
        said = [line.split(" ", 1) for line in item.output.splitlines()]
        assert [text for _, text in said] == row["choices"]
        each = [float(total) / len(text) for total, text in said]
        right = "AB".index(row["answer"])
        assert item.score == item.metrics["by_length"] == float(each[right] > each[1 - right])
    evaluate.run(context)
    [card] = score_card(context.workspace, context.run.id).cards
    assert card.grader == "likelihood of the options' texts, by character" and card.grader in to_text(card)
    monkeypatch.setattr(MmluTask, "score", None)
    monkeypatch.setattr("localdistill.engines.transformers.TransformersEngine.answer", None)
    assert answers() == items


def test_what_a_recipe_says_of_drawing_does_not_concern_likelihoods(tmp_path: Path) -> None:
    by = 'by = "likelihood"\n'
    made = []
    for drawn in ("", "[evaluate.sampling]\ntemperature = 0.7\nsamples = 4\n"):
        context, _ = evaluated(tmp_path, "mmlu", by + drawn, CHOICES)
        evaluate.run(context)
        [card] = score_card(context.workspace, context.run.id).cards
        assert card.sampler == "none, nothing is written"
        made.append(read_output(context.run, EvaluateOutput).answers)
    assert made[0] == made[1] and made[0][0].answers


def test_a_benchmark_that_is_asked_in_two_ways_has_two_cards(tmp_path: Path) -> None:
    twice = 'by = "likelihood"\n[[evaluate.task]]\nuse = "mmlu"\npath = "items.jsonl"\nlimit = 2'
    context, _ = evaluated(tmp_path, "mmlu", twice, CHOICES)
    evaluate.run(context)
    cards = score_card(context.workspace, context.run.id).cards
    assert [(card.task, card.grader, card.items) for card in cards] == [
        ("mmlu 1", "likelihood of the options' letters, as it is", 3), ("mmlu 2", "choice", 2)]
    named = {(one.task, len(one.output.splitlines())) for one in run_items(context.workspace, context.run.id, "mmlu 1")}
    assert named == {("mmlu 1", 2)}


def test_choices_by_likelihood_are_refused_in_one_line_where_the_engine_gives_none(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = evaluated(tmp_path, "mmlu", 'by = "likelihood"', CHOICES)
    monkeypatch.setattr("localdistill.engines.transformers.TransformersEngine.can", lambda self: {"generate"})
    [problem] = check_recipe(context.recipe, tmp_path)
    assert (problem.key, problem.kind) == ("evaluate.task.0", "error") and "\n" not in problem.text
    assert "cannot give the log-probabilities of a continuation" in problem.text


def test_a_task_that_asks_for_what_the_engine_cannot_is_refused_before_anything_runs(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = evaluated(tmp_path, "drawn")
    grammar = Sampling(grammar="root ::= [0-9]+")
    monkeypatch.setattr(DrawnTask, "requests", lambda self, prompt, given: [Request("", prompt.messages, grammar)])
    [problem] = check_recipe(context.recipe, tmp_path)
    assert problem.key == "evaluate.task.0" and "cannot keep to a grammar" in problem.text


def test_items_that_the_grader_cannot_judge_are_told_before_anything_runs(tmp_path: Path) -> None:
    context, _ = evaluated(tmp_path, "jsonl", 'layout = "prompts"')
    assert check_recipe(context.recipe, tmp_path) == []
    for kept, kind in ((1, "warning"), (0, "error")):
        rows = [row if place < kept else {"messages": row["messages"]} for place, row in enumerate(ROWS)]
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        [problem] = check_recipe(context.recipe, tmp_path)
        assert (problem.key, problem.kind) == ("evaluate.task.0", kind), problem
        assert f"{3 - kept} of the 3 items" in problem.text and "grader exact" in problem.text
