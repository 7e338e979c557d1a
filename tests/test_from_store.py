"""From a file to a recipe without naming it twice: what is stored is the set, and what is measured on is set aside of
it before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Workspace, check_recipe, import_file, make_plan, open_store, parse_recipe, recipe_from_store
from localdistill.core.errors import InputError
from localdistill.stages import collect
from localdistill.stages.outputs import CollectOutput, read_output
from tests.stages.test_collecting import Chain

STUDENT = "shipped:pantry/student"


def stored(root: Path, count: int = 40, reference: bool = True) -> Workspace:
    rows = [{"messages": [{"role": "user", "content": f"What is {n} plus {n * n}?"},
                          {"role": "assistant", "content": f"<think>\nadd\n</think>\n\nIt is {n + n * n}."}],
             **({"reference": str(n + n * n)} if reference else {})} for n in range(count)]
    (root / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    workspace = Workspace(root)
    import_file(workspace, root / "mine.jsonl")
    return workspace


def test_what_is_stored_becomes_a_recipe_that_is_sound(tmp_path: Path) -> None:
    workspace = stored(tmp_path)
    path = recipe_from_store(workspace, tmp_path / "mine.toml", student=STUDENT)
    recipe = parse_recipe(path.read_text())
    problems = check_recipe(recipe, tmp_path, store=open_store(workspace))
    assert [one for one in problems if one.kind == "error"] == []
    assert [arm.name for arm in recipe.arms] == ["answer_only", "full_trace"]
    assert "holdout" in {line.label for line in make_plan(workspace, recipe, tmp_path).lines}
    unseen = check_recipe(recipe, tmp_path)
    assert any(one.key == "prompts.holdout" and one.kind == "warning" for one in unseen)
    with pytest.raises(InputError, match="exists already"):
        recipe_from_store(workspace, path)


def test_what_is_measured_on_is_set_aside_of_what_is_stored(tmp_path: Path) -> None:
    workspace = stored(tmp_path)
    path = recipe_from_store(workspace, tmp_path / "mine.toml", student=STUDENT)
    chain = Chain(tmp_path, path.read_text())
    context = chain.context()
    collect.run(context)
    held = context.holdout
    assert held is not None and held.sides["test"]
    aside = {prompt.id for prompt in held.sides["test"]}
    kept = {trace.prompt_id for trace in context.store.traces(context.run.ids("collect"))}
    assert kept and not kept & aside and len(kept | aside) == 40
    assert read_output(context.run, CollectOutput).traces == len(kept)


def test_traces_that_nobody_can_judge_are_trained_on_without_a_measurement(tmp_path: Path) -> None:
    workspace = stored(tmp_path, reference=False)
    recipe = parse_recipe(recipe_from_store(workspace, tmp_path / "mine.toml", student=STUDENT).read_text())
    assert recipe.evaluate is None and not recipe.graders and recipe.export and recipe.export.arm == "answer_only"
    with pytest.raises(InputError, match="no traces are stored"):
        recipe_from_store(Workspace(tmp_path / "empty"), tmp_path / "other.toml")
