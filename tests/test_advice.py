"""What a recipe says that can run and is probably not meant is a warning wherever it is checked, planned or started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from localdistill import Problem, advice_on, parse_recipe, problems_in
from localdistill.modelfiles.shipped import shipped_recipes
from localdistill.recipe import load_recipe
from tests.helpers import REPO

LOCAL = '[[teacher]]\nuse = "llama_cpp"\nmodel = "some.gguf"\n'
SERVER = '[[teacher]]\nuse = "openai_compatible"\nmodel = "m"\nbase_url = "http://localhost:8000/v1"\n'


def recipe(collect: str, teacher: str = LOCAL) -> str:
    return f'name = "t"\n[prompts]\nfiles = ["p.jsonl"]\n[[grade]]\nuse = "exact"\n[collect]\n{collect}\n{teacher}'


def keys(collect: str, teacher: str = LOCAL) -> list[str]:
    return [key for key, _ in advice_on(parse_recipe(recipe(collect, teacher)))]


@pytest.mark.parametrize(("collect", "key"), [
    ("samples = 4", "collect.temperature"),
    ("samples = 2\nuntil_verified = true", "collect.temperature"),
    ("samples = 3\ntemperature = 0.8\ntop_k = 1", "collect.top_k"),
    ("samples = 3\ntemperature = 0.8\ntop_p = 0.0001", "collect.top_p"),
])
def test_several_samples_that_would_be_one_answer(collect: str, key: str) -> None:
    for teacher in (LOCAL, SERVER):
        assert keys(collect, teacher) == [key]
    (text,) = (text for _, text in advice_on(parse_recipe(recipe(collect))))
    assert "the same answer each time" in text and key.removeprefix("collect.") in text


@pytest.mark.parametrize(("collect", "teacher"), [
    ("samples = 1", LOCAL),
    ("samples = 4\ntemperature = 0.7", LOCAL),
    ("samples = 4\ntemperature = 0.7\ntop_k = 2\ntop_p = 0.5", SERVER),
    ("samples = 4", '[[teacher]]\nuse = "replay"\npath = "r.jsonl"\n'),
    ("samples = 4", SERVER + "extra = { temperature = 0.6 }\n"),
    ("samples = 4", '[[teacher]]\nuse = "openai_compatible"\nprovider = "deepseek"\nmodel = "deepseek-flash"\n'),
    ("samples = 4", '[[teacher]]\nuse = "openai_compatible"\nprovider = "openai"\nmodel = "gpt-5.2"\n'),
    ("samples = 4\nthinks = true\nmax_tokens = 30000",
     '[[teacher]]\nuse = "anthropic"\nbase_url = "http://localhost:9"\nmodel = "m"\n'),
])
def test_samples_that_can_differ_are_not_warned_of(collect: str, teacher: str) -> None:
    assert keys(collect, teacher) == []


def test_a_teacher_told_not_to_think_heeds_the_temperature() -> None:
    teacher = '[[teacher]]\nuse = "openai_compatible"\nprovider = "deepseek"\nmodel = "deepseek-flash"\n'
    assert keys("samples = 4\nthinks = false", teacher) == ["collect.temperature"]


def test_of_several_teachers_the_one_that_repeats_is_named() -> None:
    text = recipe("samples = 4", LOCAL + 'name = "local"\n' + SERVER + 'name = "far"\nextra = { temperature = 1.0 }\n')
    ((_, said),) = advice_on(parse_recipe(text))
    assert "local takes" in said and "far" not in said


def test_a_greedy_setting_of_the_server_is_found_where_it_stands() -> None:
    text = recipe("samples = 4\ntemperature = 0.9", SERVER + "extra = { temperature = 0 }\n")
    ((_, said),) = advice_on(parse_recipe(text))
    assert "in the teacher's extra" in said


def test_until_verified_with_a_single_try_is_said() -> None:
    assert keys("until_verified = true") == ["collect.until_verified"]
    assert keys("until_verified = true\nsamples = 3\ntemperature = 0.7") == []


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda path: path.stem)
def test_no_shipped_recipe_deserves_a_warning(path: Path) -> None:
    assert advice_on(load_recipe(path)) == []


def test_a_warning_is_a_problem_of_its_own_kind_and_comes_after_errors() -> None:
    (found,) = problems_in(recipe("samples = 4"))
    assert found == Problem("collect.temperature", found.text, "warning")
    broken = problems_in(recipe("samples = 4\nsampels = 2"))
    assert [(p.key, p.kind) for p in broken] == [("collect.sampels", "error")]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "localdistill", *arguments]
    return subprocess.run(call, capture_output=True, text=True, cwd=folder,
                          env={**os.environ, "PYTHONPATH": str(REPO)}, stdin=subprocess.DEVNULL)


def test_the_command_line_warns_and_still_succeeds(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "How many?"}]}) + "\n")
    (tmp_path / "r.toml").write_text(recipe("samples = 4", LOCAL.replace("some.gguf", "shipped:pantry/teacher.gguf")))
    checked = command(tmp_path, "recipe", "check", "r.toml")
    assert checked.returncode == 0 and "fine" in checked.stdout
    assert checked.stderr.startswith("warning: collect.temperature: samples = 4")
    told = command(tmp_path, "recipe", "check", "r.toml", "--json")
    assert told.returncode == 0 and json.loads(told.stdout)["warnings"][0][0] == "collect.temperature"
    assert "warning: collect.temperature" in told.stderr
    mended = command(tmp_path, "recipe", "check", "r.toml", "--set", "collect.temperature=0.7")
    assert "warning" not in mended.stderr and mended.returncode == 0
    planned = command(tmp_path, "plan", "r.toml", "--json")
    assert json.loads(planned.stdout)["warnings"][0].startswith("collect.temperature: samples = 4")
    changed = command(tmp_path, "recipe", "set", "r.toml", "collect.samples=3", "--json")
    assert json.loads(changed.stdout)["problems"] == []
    assert json.loads(changed.stdout)["warnings"][0][0] == "collect.temperature"
