"""The logprobs command prints what the engine found, for a folder and for a file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from localdistill import UsageError, score_continuations
from localdistill.cli.app import app as cli
from localdistill.core.errors import EngineError
from localdistill.recipe import Member
from tests.tiny_models import tiny_model

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("student") / "m", "qwen3", seed=5, initializer_range=0.3)


def logprobs(tmp_path: Path, *words: object) -> Result:
    return CliRunner().invoke(cli, ["logprobs", *map(str, words), "--workspace", str(tmp_path)])


def test_it_prints_what_the_model_finds(student: Path, tmp_path: Path) -> None:
    words = ("7", " 8 apples", "--ask", "12 - 5 = ?", "--no-thinking", "--top", 2)
    told = json.loads(logprobs(tmp_path, student, *words, "--json").stdout)
    found = score_continuations(Member(use="transformers", options={"model": str(student)}), ["7", " 8 apples"],
                                "12 - 5 = ?", thinks=False, top=2)
    assert [one["continuation"] for one in told] == ["7", " 8 apples"]
    for said, scores in zip(told, found, strict=True):
        assert said["total"] == pytest.approx(scores.total) == pytest.approx(sum(said["logprobs"]))
        assert said["ids"] == list(scores.ids) and [len(row) for row in said["top_ids"]] == [2] * len(scores.ids)
    table = logprobs(tmp_path, student, *words, "--tokens").stdout
    shares = [math.exp(one.total) for one in found]
    assert f"{found[0].total:.4f}" in table and f"{shares[0] / sum(shares):.1%}" in table and "' 8 apples'" in table
    assert table.count("token ") == sum(len(one.ids) for one in found) + table.splitlines()[0].count("token ")


def test_a_file_and_its_folder_say_the_same(student: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    from localdistill.exporters.gguf import convert_to_gguf

    convert_to_gguf(student, tmp_path / "m.gguf", "F16")
    words = ("42", "Wait, let me check", "--text", "Think step by step.", "--json")
    of_folder, of_file = (json.loads(logprobs(tmp_path, model, *words).stdout)
                          for model in (student, tmp_path / "m.gguf"))
    for folder, file in zip(of_folder, of_file, strict=True):
        assert folder["ids"] == file["ids"] and folder["total"] == pytest.approx(file["total"], abs=0.05)


@pytest.mark.parametrize(("words", "told"), [
    (("7",), "a question or a text"), (("7", "--ask", "?", "--text", "x"), "a question or a text"),
    (("7", "", "--ask", "?"), "continuation 2 is empty"),
    (("apples " * 600, "--ask", "?"), "the context holds 512"),
])
def test_what_cannot_be_scored_is_said(student: Path, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    result = logprobs(tmp_path, student, *words)
    assert isinstance(result.exception, UsageError | EngineError) and told in result.exception.message
    assert result.exception.hint and not result.stdout


def test_an_adapter_needs_a_folder_and_money_a_run(student: Path, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    result = logprobs(tmp_path, tmp_path / "m.gguf", "7", "--ask", "?", "--adapter", tmp_path)
    assert isinstance(result.exception, UsageError) and "model folder" in result.exception.message
    far = Member(use="openai_compatible", options={"base_url": "https://api.example.com/v1", "model": "m",
                                                   "tokenizer": str(student), "prompt_logprobs": "echo"})
    with pytest.raises(UsageError, match=r"api\.example\.com may cost money"):
        score_continuations(far, ["7"], "?")
