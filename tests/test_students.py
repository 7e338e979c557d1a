"""What works for a kind of student, and for one model on this machine, is said by the checks that a plan runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localdistill import examine_student, shipped_path, student_kinds
from localdistill.cli.app import app
from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures import ARCHITECTURES
from tests.tiny_models import edit_json, tiny_model

pytest.importorskip("tokenizers")


def test_every_architecture_is_listed_with_how_far_its_texts_are_read() -> None:
    kinds = {kind.name: kind for kind in student_kinds()}
    assert list(kinds) == list(ARCHITECTURES)
    assert (kinds["LlamaForCausalLM"].gguf, kinds["MistralForCausalLM"].gguf) == ("yes", "within its window")
    assert (kinds["Gemma2ForCausalLM"].gguf, kinds["Gemma2ForCausalLM"].mlx) == ("yes", "within its window")
    assert kinds["Gemma3ForCausalLM"].mlx == "yes"


def test_a_model_is_examined_step_by_step() -> None:
    report = examine_student(str(shipped_path("pantry/student")))
    steps = {step.what: step for step in report.steps}
    assert report.kind == "LlamaForCausalLM" and report.parameter_count > 0
    assert {"train with torch_lora", "train with mlx_lora", "merge", "export as gguf"} <= set(steps)
    assert steps["train with torch_lora"].works and "GB" in steps["train with torch_lora"].text


def test_a_step_that_does_not_work_says_why_and_what_helps(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    student = tiny_model(tmp_path / "m", "mistral", sliding_window=100)
    steps = {step.what: step for step in examine_student(str(student)).steps}
    assert not steps["export as gguf"].works and "sliding window of 100" in steps["export as gguf"].text
    assert "max_tokens" in steps["export as gguf"].fix and steps["train with torch_lora"].works
    assert {step.what: step for step in examine_student(str(student), max_tokens=64).steps}["export as gguf"].works


def test_what_an_export_cannot_hold_of_a_student_that_thinks_is_said(tmp_path: Path) -> None:
    steps = {step.what: step for step in examine_student(str(tiny_model(tmp_path / "m"))).steps}
    assert steps["export as adapter_gguf"].works
    assert "not what learns to think: " in steps["export as adapter_gguf"].text
    assert "learns to think" not in steps["export as gguf"].text


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m")
    edit_json(student / "config.json", architectures=["BertModel"])
    with pytest.raises(ModelFileError, match="'BertModel' is not supported"):
        examine_student(str(student))


def test_the_command_lists_kinds_and_examines_one() -> None:
    listed = CliRunner().invoke(app, ["models"])
    assert listed.exit_code == 0 and "Gemma3ForCausalLM" in listed.stdout and "within its window" in listed.stdout
    one = CliRunner().invoke(app, ["models", "shipped:pantry/student", "--json"])
    assert json.loads(one.stdout)["kind"] == "LlamaForCausalLM"
    plain = CliRunner().invoke(app, ["models", "shipped:pantry/student"])
    assert "export as gguf" in plain.stdout and "GB free" in plain.stdout
