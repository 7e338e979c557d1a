"""The part of a plan that a training screen shows: without reading a prompt."""

from __future__ import annotations

from pathlib import Path

from localdistill import load_recipe, plan_training, recipe_file


def test_memory_and_count_of_trainings_without_reading_prompts(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file("pantry"), ['prompts.files=["gone.jsonl"]', "train.seeds=3"])
    plan = plan_training(recipe, tmp_path)
    lines = {line.label: line.text for line in plan.lines}
    assert "4 arms x 3 seeds = 12 trainings" in lines["training"]
    assert "2.9 M parameters" in lines["student"] and "GB" in lines["memory"]


def test_a_recipe_that_trains_nothing_has_an_empty_plan(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "r"\n[traces]\nfiles = ["t.jsonl"]\n')
    assert plan_training(load_recipe(tmp_path / "r.toml"), tmp_path).lines == ()
