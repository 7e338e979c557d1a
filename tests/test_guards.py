"""A recipe that names no guard gets the one that ships where its student is one that people use, says so, and leaves it
out on one line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from localdistill import Workspace, check_recipe, make_plan, parse_recipe
from localdistill.modelfiles.shipped import shipped_recipes
from localdistill.recipe.reading import dump_recipe, read_resolved
from localdistill.stages import checking
from tests.tiny_models import tiny_model

HUB = 'name = "r"\n[traces.t]\nfiles = ["rows.jsonl"]\n[student]\nmodel = "hf://acme/small"\n[evaluate]\n'
TASK = '[[evaluate.task]]\nuse = "{use}"\npath = "items.jsonl"\n'


def tasks_of(text: str) -> list[str]:
    recipe = parse_recipe(text)
    assert recipe.evaluate is not None and read_resolved(dump_recipe(recipe)) == recipe
    return [task.use for task in recipe.evaluate.tasks]


def test_a_student_of_the_hub_is_guarded_unless_the_recipe_says_otherwise() -> None:
    math, jsonl = TASK.format(use="gsm8k"), TASK.format(use="jsonl")
    assert tasks_of(HUB + math) == ["gsm8k", "everyday"]
    assert tasks_of(HUB + math + TASK.format(use="math500")) == ["gsm8k", "math500", "everyday"]
    assert tasks_of(HUB + "guard = false\n" + math) == ["gsm8k"]
    for guard in ("ifeval", "mmlu"):
        assert tasks_of(HUB + math + TASK.format(use=guard)) == ["gsm8k", guard]
    assert tasks_of(HUB + jsonl) == ["jsonl", "everyday"]
    assert tasks_of(HUB + math + jsonl + "is_guard = true\n") == ["gsm8k", "jsonl"]
    assert tasks_of(HUB + math + '[[evaluate.task]]\nuse = "everyday"\nlimit = 3\n') == ["gsm8k", "everyday"]
    aside = HUB + '[prompts]\nfiles = ["q.jsonl"]\nholdout = { test = 0.1 }\n[[grade]]\nuse = "exact"\n'
    assert tasks_of(aside) == ["holdout", "everyday"]


def test_other_students_are_not_guarded_by_accident() -> None:
    for model in ("shipped:pantry/student", "student", "/models/qwen"):
        text = HUB.replace("hf://acme/small", model) + TASK.format(use="gsm8k")
        assert tasks_of(text) == ["gsm8k"]
        assert tasks_of(text.replace("[evaluate]\n", "[evaluate]\nguard = true\n")) == ["gsm8k", "everyday"]


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_shipped_recipes_measure_what_they_name(path: Path) -> None:
    named = tomllib.loads(path.read_text()).get("evaluate", {}).get("task", [])
    evaluate = parse_recipe(path.read_text()).evaluate
    assert [task.use for task in (evaluate.tasks if evaluate else ())] == [task["use"] for task in named]


def test_the_plan_says_the_guard_and_the_check_misses_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    tiny_model(tmp_path / "student", "llama", hidden=32)
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "1"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": "Two and 2?", "answer": "#### 4"}) + "\n")
    text = HUB.replace("hf://acme/small", "student") + "{guard}" + TASK.format(use="gsm8k")

    def plan(guard: str) -> dict[str, str]:
        return {line.label: line.text for line in
                make_plan(Workspace(tmp_path / "w"), parse_recipe(text.format(guard=guard)), tmp_path).lines}

    said = plan("guard = true\n")
    assert said["guard"].startswith("everyday, which ships") and "evaluate.guard = false" in said["guard"]
    assert said["evaluate"].startswith("everyday: 84 items x 1 models") and "guard" not in plan("")
    assert check_recipe(parse_recipe(text.format(guard="")), tmp_path) == [], "a toy that nobody comes to use"
    monkeypatch.setattr(checking, "_IN_USE", 1)
    [problem] = check_recipe(parse_recipe(text.format(guard="")), tmp_path)
    assert (problem.kind, problem.key) == ("warning", "evaluate") and "guard = true" in problem.hint
    for guard in ("guard = true\n", "guard = false\n"):
        assert check_recipe(parse_recipe(text.format(guard=guard)), tmp_path) == []
