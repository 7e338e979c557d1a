"""A student that the recipe's stages could not use is refused before the first of them, wherever one asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from localdistill import Workspace, check_student, list_runs, make_plan, parse_recipe, start
from localdistill.core.errors import LocalDistillError, ModelFileError
from tests.tiny_models import tiny_model

RECIPE = """
name = "checked"
[traces]
files = ["rows.jsonl"]
[student]
model = "student"
max_tokens = 200
[[arm]]
name = "full"
format = "full_trace"
[train]
use = "torch_lora"
[export]
arm = "full"
[[export.to]]
use = "gguf"
[[export.to]]
use = "ollama"
"""
ALL = ("format", "train", "export")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\na\n</think>\n\n1"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    return tmp_path


def test_a_student_that_cannot_be_exported_is_refused_by_check_plan_and_start(folder: Path) -> None:
    tiny_model(folder / "student", "mistral", hidden=32, sliding_window=100)
    recipe, workspace = parse_recipe(RECIPE), Workspace(folder)
    said = "cannot be exported by gguf: .*sliding window of 100"
    with pytest.raises(ModelFileError, match=said) as caught:
        check_student(recipe, folder, ALL)
    assert "max_tokens" in caught.value.hint
    with pytest.raises(ModelFileError, match=said):
        make_plan(workspace, recipe, folder)
    with pytest.raises(ModelFileError, match=said):
        start(workspace, recipe, RECIPE, folder)
    assert list_runs(workspace.runs) == []
    assert check_student(recipe, folder, ("collect", "select")) == check_student(recipe, folder, ("format",)) == []
    shorter = parse_recipe(RECIPE.replace("max_tokens = 200", "max_tokens = 100"))
    assert check_student(shorter, folder, ALL) == []


def test_the_command_that_checks_a_recipe_looks_at_its_student(folder: Path) -> None:
    (folder / "r.toml").write_text(RECIPE)
    script = "import sys; from localdistill.cli import main; sys.argv[0] = 'localdistill'; main()"
    command = [sys.executable, "-c", script, "recipe", "check", "r.toml"]
    absent = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert absent.returncode == 2 and "student.model: there is no model folder" in absent.stderr
    tiny_model(folder / "student", "mistral", hidden=32, sliding_window=None)
    fine = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert fine.returncode == 0 and "checked: fine" in fine.stdout


def test_what_cannot_be_looked_at_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [unknown] = check_student(parse_recipe(RECIPE.replace('"student"', '"hf://nobody/none"')), folder, ALL)
    assert "hf://nobody/none is read when the run needs it" in unknown
    tiny_model(folder / "student", "llama", hidden=32)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    [unchecked] = check_student(parse_recipe(RECIPE), folder, ALL)
    assert "was not checked" in unchecked and "tokenizers" in unchecked
    assert unchecked in make_plan(Workspace(folder), parse_recipe(RECIPE), folder).warnings


def test_an_absent_student_is_no_reason_not_to_collect(folder: Path) -> None:
    recipe = parse_recipe(RECIPE)
    with pytest.raises(LocalDistillError, match="no model folder"):
        check_student(recipe, folder, ("collect", "format"))
    assert check_student(recipe, folder, ("collect", "grade", "select")) == []
