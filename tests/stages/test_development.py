"""Development items of a run: disjoint from what is scored and what is trained on, refused where they cannot be judged
on the way, and told in plan, result and score card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Workspace, check_recipe, make_plan, parse_recipe
from localdistill.core.errors import LocalDistillError, RecipeError
from localdistill.core.events import Event, Measured, Warned
from localdistill.core.records import Message, Prompt
from localdistill.scorecard import ScoreCards
from localdistill.stages import evaluate, train
from localdistill.stages.development import clean_items
from localdistill.stages.outputs import SCORECARD_FILE, EvaluateOutput, TrainOutput, read_output
from tests.helpers import write_questions
from tests.stages.test_training_arms import arm, context_of
from tests.tiny_models import tiny_model
from tests.trainers.rows import random_rows

DEV = '[train.dev]\nevery_steps = 2\nmax_tokens = 4\n{more}\n[train.dev.task]\nuse = "jsonl"\npath = "dev.jsonl"\n'
SCORED = '[evaluate]\nmax_tokens = 4\n[[evaluate.task]]\nuse = "jsonl"\npath = "scored.jsonl"\n'
HEAD = ('name = "r"\n[prompts]\nfiles = ["q.jsonl"]\nholdout = { test = 0.2, dev = 0.2 }\n[engine.e]\n'
        'use = "openai_compatible"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n[traces.t]\nask = "e"\n'
        '[[grade]]\nuse = "exact"\n[student]\nmodel = "student"\n' + arm("a") + "[train]\nepochs = 1\n")
STORY = "How many eggs does the red hen on the old farm lay in one week if she lays two each morning?"


def prompt(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def write_items(path: Path, *questions: str) -> None:
    rows = [{"messages": [{"role": "user", "content": text}], "reference": "7"} for text in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_is_scored_or_trained_on_is_no_development_item() -> None:
    longer = f"{STORY} And how many do the three brown hens beside her lay, if each of them lays as many on Monday?"
    items = [prompt(text) for text in ("Double 1", "Double 2", "Double 3", STORY + " Say it loudly.", longer)]
    found = clean_items(items, [prompt("Double 1"), prompt(STORY)], {"double 2!"})
    assert [item.question for item in found.prompts] == ["Double 3"] and (found.scored, found.trained) == (3, 1)
    with pytest.raises(LocalDistillError, match="no development item is left: of 1, 1 are scored by a benchmark"):
        clean_items(items[:1], items, set())


def test_a_recipe_says_what_may_decide(tmp_path: Path) -> None:
    recipe = parse_recipe(HEAD + "[train.dev]\npatience = 2\n[evaluate]\n")
    assert recipe.dev_task is not None and recipe.evaluate is not None
    assert (recipe.dev_task.use, recipe.dev_task.options["split"]) == ("holdout", "dev")
    assert recipe.dev_task.options["grader"]["use"] == "exact", "by the first grader, as what is scored"
    assert [task.options["split"] for task in recipe.evaluate.tasks] == ["test"]
    for text, said in (
        (HEAD.replace(", dev = 0.2", "") + "[train.dev]\n", "train.dev: asks nothing: name a task"),
        (HEAD + '[train.dev]\n[[evaluate.task]]\nuse = "holdout"\nsplit = "dev"\n',
         "train.dev.task.split: evaluate.task[0] scores these prompts"),
        (HEAD + '[train.dev]\nkeeps = "best"\n', "train.dev.keeps: unknown key, did you mean 'keep'"),
        (HEAD + '[train.dev.task]\nuse = "gsm8kk"\n', "train.dev.task.use"),
    ):
        with pytest.raises(RecipeError) as told:
            parse_recipe(text)
        assert said.partition(",")[0] in str(told.value), told.value


def test_the_check_refuses_items_that_cannot_decide_and_the_plan_says_what_they_cost(tmp_path: Path) -> None:
    context = context_of(tmp_path, arm("a") + DEV.format(more="patience = 3") + SCORED, {"a": random_rows(8)})
    write_items(tmp_path / "scored.jsonl", *(f"Double {n}" for n in range(4)))
    write_items(tmp_path / "dev.jsonl", *(f"Double {n}" for n in range(4)))
    stages = ("train", "evaluate")
    [problem] = [one for one in check_recipe(context.recipe, tmp_path, stages) if one.kind == "error"]
    assert problem.key == "train.dev.task" and "of 4, 4 are scored by a benchmark" in problem.text
    write_items(tmp_path / "dev.jsonl", *(f"Double {n}" for n in range(2, 9)))
    assert [one for one in check_recipe(context.recipe, tmp_path, stages) if one.kind == "error"] == []


def test_the_plan_says_what_is_asked_how_often_and_what_it_decides(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 40)
    tiny_model(tmp_path / "student", "llama", hidden=32)
    recipe = parse_recipe(HEAD + 'seeds = 3\n[train.dev]\npatience = 2\nkeep = "best"\n[evaluate]\nmax_tokens = 50\n')
    plan = make_plan(Workspace(tmp_path / "w"), recipe, tmp_path)
    lines = {line.label: line.text for line in plan.lines}
    count = int(lines["development"].split()[1])
    assert 2 <= count <= 16 and lines["development"] == (
        f"holdout: {count} items at every 50 steps and at the last, in each of 3 trainings; the best weights come out; "
        "2 measurements without a better score end a training")
    assert lines["costs"].startswith(f"each measurement at most {50 * count:,} new tokens, beside the training itself")


def test_the_rule_decides_the_weights_and_is_told_with_the_score(tmp_path: Path) -> None:
    write_items(tmp_path / "scored.jsonl", *(f"Double {n}" for n in range(4)))
    write_items(tmp_path / "dev.jsonl", "Double 3", "Double 11", "Double 12")
    rows = {"a": random_rows(12), "b": random_rows(12, seed=1)}
    plain = context_of(tmp_path, arm("a") + arm("b"), rows)
    train.run(plain)
    text = arm("a") + arm("b") + DEV.format(more='patience = 2\nkeep = "best"') + SCORED
    context = context_of(tmp_path, text, rows)
    train.run(context)
    one, other = (read_output(found.run, TrainOutput).adapters for found in (plain, context))
    for name in rows:
        result = other[name][0].result
        assert result.dev is not None and result.dev.items == 2 and one[name][0].result.dev is None
        assert result.dev.ended and result.dev.last_step == 6 and result.steps == result.dev.kept_step == 2
        assert one[name][0].adapter != other[name][0].adapter
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    points = [(event.arm, event.seed, event.step) for event in heard
              if isinstance(event, Measured) and event.name == "dev score"]
    assert points == [(name, 0, step) for name in rows for step in (2, 4, 6)]
    assert any("1 of 3 development items are left out: 1 are scored by a benchmark" in event.text
               for event in heard if isinstance(event, Warned))
    write_questions(tmp_path / "q.jsonl", 40)
    plan = make_plan(context.workspace, parse_recipe(HEAD + "[train.dev]\n"), tmp_path)
    [costs] = [line.text for line in plan.lines if line.label == "costs"]
    assert "the last one in this workspace took" in costs, "a plan says what was measured"
    evaluate.run(context)
    artifact = context.artifact("scorecard", read_output(context.run, EvaluateOutput).scorecard)
    (card,) = ScoreCards.from_bytes(artifact.file(SCORECARD_FILE).read_bytes(), "the card").cards
    assert card.items == 4 and {row.name: bool(row.kept) for row in card.rows} == {"base": False, "a": True, "b": True}
    assert len(card.comparisons) == 3, "all arms were stopped by one rule, and are compared"
    told = artifact.file("scorecard.txt").read_text()
    assert "a: step 2 of 6, development score 0.0 %, the best of 3 measurements, ended after 2" in told
    assert "by the same rule for every arm" in told
