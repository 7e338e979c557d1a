"""From a file to a recipe without naming it twice: what is stored is the set, and what is measured on is set aside of
it before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import (
    Workspace,
    check_recipe,
    import_file,
    make_plan,
    open_store,
    parse_recipe,
    recipe_from_store,
    survey,
)
from localdistill.core.errors import InputError, RecipeError
from localdistill.core.records import Message, Prompt
from localdistill.stages import collect
from localdistill.stages.outputs import CollectOutput, read_output
from tests.helpers import counting_server, write_questions
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


def asking(path: Path, address: str) -> str:
    """The recipe at `path` with this server as its teacher."""
    text = path.read_text().replace("max_usd = 5.0", "").replace("max_tokens = 8192", "max_tokens = 9")
    teacher = 'provider = "deepseek"\nmodel = "deepseek-v4-pro"\n'
    assert teacher in text
    return text.replace(teacher, f'base_url = "{address}"\nmodel = "m"\n')


def test_questions_alone_become_a_recipe_that_asks_a_teacher_each_of_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    import_file(workspace, write_questions(tmp_path / "mine.jsonl", 40))
    open_store(workspace).add_prompts([Prompt((Message("user", "Made?"),), source="mine.jsonl",
                                              metadata={"made_by": "rephrase@1"})])
    assert "recipe new mine.toml --from-store" in {step.command for step in survey(workspace).next_steps}
    path = recipe_from_store(workspace, tmp_path / "mine.toml", student=STUDENT)
    assert "40 questions (mine.jsonl)" in path.read_text()
    (tmp_path / "mine.jsonl").unlink()
    with counting_server() as server:
        chain = Chain(tmp_path, asking(path, server.url))
        recipe = parse_recipe(chain.recipe)
        problems = check_recipe(recipe, tmp_path, store=open_store(workspace))
        assert [one for one in problems if one.kind == "error"] == []
        assert any("for 'test'" in line.text for line in make_plan(workspace, recipe, tmp_path).lines)
        context = chain.context()
        collect.run(context)
        held = {prompt.question for prompt in context.holdout.sides["test"]} if context.holdout else set()
        assert held and not held & server.asked.keys() and len(held | server.asked.keys()) == 40
    assert any(one.key == "prompts.stored" and one.kind == "warning" for one in check_recipe(recipe, tmp_path))


def test_stored_questions_are_asked_by_where_they_are_from(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name, count in (("one.jsonl", 3), ("two.jsonl", 6)):
        import_file(workspace, write_questions(tmp_path / name, count))
    text = asking(recipe_from_store(workspace, tmp_path / "mine.toml", student=STUDENT), "http://127.0.0.1:9")
    said = parse_recipe(text.replace('stored = "*"', 'stored = "two.jsonl"'))
    assert said.prompts is not None and said.prompts.stored == ("two.jsonl",)
    store = open_store(workspace)
    assert [prompt.question for prompt in store.prompts(store.prompt_ids(said.prompts.stored))] == [
        "Double 3", "Double 4", "Double 5"], "the others came from the file before"
    wrong = parse_recipe(text.replace('stored = "*"', 'stored = ["tow.jsonl"]'))
    told = [one for one in check_recipe(wrong, tmp_path, store=store) if one.key == "prompts.stored"]
    assert [one.kind for one in told] == ["error"] and "two.jsonl" in told[0].text
    with pytest.raises(RecipeError, match="files or stored ones"):
        parse_recipe(text.replace('stored = "*"', ""))
