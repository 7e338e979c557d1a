"""The teacher commands as a newcomer meets them: costs and terms before anything is spent, reports, JSON, hints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from localdistill.cli import teachers
from localdistill.core.errors import EngineError, UsageError
from tests.helpers import collecting_recipe, write_questions
from tests.teachers import PlayedTeacher, played

app = typer.Typer()
teachers.register(app)


@app.callback()
def _group() -> None:
    """Without it a single group would be the whole program."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "config"))
    for name in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def teacher() -> Iterator[PlayedTeacher]:
    with played(PlayedTeacher(limit_error="at most 8192 tokens")) as running:
        yield running


def run(*args: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["teacher", *args], input=text)


def recipe(teacher: PlayedTeacher, place: Path, prices: bool = True) -> str:
    extra = "usd_per_million_input = 1.0\nusd_per_million_output = 2.0\n" if prices else ""
    path = place / "mine.toml"
    path.write_text(collecting_recipe(write_questions(place / "q.jsonl", 2), teacher.url, 2,
                                      extra + 'thinking_switch = "thinking"'))
    return str(path)


def test_list_shows_terms_keys_and_the_last_probe(teacher: PlayedTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-canary-2")
    out = run("list")
    assert out.exit_code == 0 and "sk-canary-2" not in out.output
    line = next(line for line in out.stdout.splitlines() if line.startswith("deepseek"))
    assert "allowed" in line and "environment" in line and line.endswith("-")
    assert run("probe", "vllm", "--model", "m", "--base-url", teacher.url, "--yes").exit_code == 0
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["vllm"]["last_probe"]["reasoning"] == "raw" and rows["deepseek"]["last_probe"] is None


def test_show_gives_documents_and_dates_and_the_nearest_name() -> None:
    shown = run("show", "openai").stdout
    assert "https://" in shown and "2026-05-22" in shown and "prohibited" in shown
    assert json.loads(run("show", "openai", "--json").stdout)["terms"]["class"] == "prohibited"
    assert "did you mean 'openai'" in str(run("show", "opnai").exception)


def test_a_probe_says_the_cost_and_asks(teacher: PlayedTeacher, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(teacher, place)
    nobody = run("probe", path)
    assert isinstance(nobody.exception, UsageError) and "--yes" in nobody.exception.hint
    assert "at most about $0.00" in nobody.stderr and "stops at $0.05" in nobody.stderr
    monkeypatch.setattr(teachers.output, "somebody_is_here", lambda: True)
    assert run("probe", path, text="n\n").exit_code == 0
    assert teacher.bodies == [], "nobody was asked before somebody agreed"
    done = run("probe", path, text="y\n")
    assert done.exit_code == 0 and "shown whole" in done.stdout and "8,192 new tokens" in done.stdout
    assert "$0.000" in done.stdout


def test_an_unknown_price_is_said_to_be_unknown_and_still_asked_about(teacher: PlayedTeacher, place: Path) -> None:
    out = run("probe", recipe(teacher, place, prices=False))
    assert isinstance(out.exception, UsageError)
    assert "unknown" in out.stderr and "cap cannot hold" in out.stderr and teacher.bodies == []


def test_json_holds_the_report_and_the_second_probe_says_what_changed(teacher: PlayedTeacher, place: Path) -> None:
    path = recipe(teacher, place)
    first = json.loads(run("probe", path, "--yes", "--json").stdout)[0]
    assert first["probe"]["reasoning"] == "raw" and first["changes"] == []
    assert "nothing changed since" in run("probe", path, "--yes").stdout
    teacher.limit_error = "at most 4096 tokens"
    assert "most new tokens: 8192 before, 4096 now" in run("probe", path, "--yes").stdout


def test_a_teacher_of_a_recipe_with_another_model(teacher: PlayedTeacher, place: Path) -> None:
    path = recipe(teacher, place)
    out = run("probe", "teacher", "--recipe", path, "--model", "other", "--yes")
    assert out.exit_code == 0 and teacher.bodies[0]["model"] == "other"
    assert isinstance(run("probe", "nobody", "--recipe", path, "--yes").exception, UsageError)


def test_the_cap_stops_before_anything_is_sent(teacher: PlayedTeacher, place: Path) -> None:
    out = run("probe", recipe(teacher, place), "--yes", "--max-usd", "0.0001")
    assert getattr(out.exception, "exit_code", None) == 4 and teacher.bodies == []


def test_terms_and_keys_come_before_the_question_of_money(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("probe", "openai", "--model", "gpt-4o", "--yes").exception
    assert isinstance(refused, UsageError) and "--accept-terms openai" in refused.hint
    assert "teacher probe" in refused.hint
    keyless = run("probe", "openai", "--model", "gpt-4o", "--yes", "--accept-terms", "openai").exception
    assert isinstance(keyless, EngineError) and "OPENAI_API_KEY" in keyless.message
    stranger = run("probe", "deepseek", "--model", "x", "--yes", "--accept-terms", "openai").exception
    assert isinstance(stranger, UsageError) and "does not use it" in stranger.message


def test_a_key_is_sent_to_its_own_host_only(teacher: PlayedTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-3")
    out = run("probe", "vllm", "--model", "m", "--base-url", teacher.url, "--key-env", "OPENAI_API_KEY", "--yes")
    assert isinstance(out.exception, UsageError) and "keys allow" in out.exception.hint
    assert teacher.bodies == [] and "sk-canary-3" not in out.output + str(out.exception)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    assert "did you mean 'deepseek'" in str(run("probe", "deepsek").exception)
    assert "which model" in str(run("probe", "deepseek").exception)


def test_hostile_words_reach_no_terminal(teacher: PlayedTeacher, place: Path) -> None:
    teacher.model = "\x1b]0;owned\x07\u202egpt"
    for extra in ((), ("--json",)):
        out = run("probe", recipe(teacher, place), "--yes", *extra)
        assert not set(out.output) & set("\x1b\x07\u202e")


def test_tune_measures_and_remembers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    from localdistill.modelfiles.shipped import shipped_path

    monkeypatch.setenv("LOCALDISTILL_CACHE", str(place / "cache"))
    out = run("tune", str(shipped_path("pantry/teacher.gguf")), "--parallel", "2", "--json")
    assert out.exit_code == 0, out.exception
    found = json.loads(out.stdout)
    assert found["threads"] >= 1 and all(rate > 0 for rate in found["rates"].values())
    assert list((place / "cache").iterdir())
