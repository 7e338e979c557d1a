"""Whom a name means in a chat: what a run exported, trained or began from, folders of students and adapters, engines of
recipes; and two of them in one conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from localdistill import (
    ChatSession,
    Workspace,
    chat_target,
    engine_target,
    open_chat,
    parse_recipe,
    share_history,
    shipped_path,
    start,
    wait,
)
from localdistill.cli.app import app as cli
from localdistill.core.errors import LocalDistillError, ModelFileError, UsageError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Reply, Request, Sampling
from tests.tiny_models import tiny_model

RECIPE = """
name = "talk"
[engine]
taped = { use = "replay", path = "replies.jsonl" }
served = { use = "openai_compatible", base_url = "https://models.example.org/v1", model = "m" }
[traces]
files = ["rows.jsonl"]
[student]
model = "student"
max_tokens = 200
[[arm]]
name = "full"
format = "full_trace"
[train]
use = "USE"
rank = 2
max_steps = 2
"""


@pytest.fixture(scope="module", params=["torch_lora", "mlx_lora"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with a run that trained one arm, and the engine that answers it."""
    pytest.importorskip("torch")
    if request.param == "mlx_lora":
        pytest.importorskip("mlx.core")
    folder = tmp_path_factory.mktemp("talk")
    tiny_model(folder / "student", hidden=32)
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\na\n</think>\n\n1"}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    text = RECIPE.replace("USE", request.param)
    run = start(Workspace(folder), parse_recipe(text), text, folder, "train")
    assert wait(run).state == "finished", run.log.read_text()[-2000:]
    return folder, {"torch_lora": "transformers", "mlx_lora": "mlx"}[request.param]


def test_an_arm_and_the_base_of_a_run_are_asked_as_they_were_trained(trained: tuple[Path, str]) -> None:
    folder, engine = trained
    arm, base = (chat_target(Workspace(folder), f"talk-1:{name}") for name in ("full", "base"))
    assert arm.engine.use == base.engine.use == engine and arm.title == "full of talk-1"
    assert arm.thinks is True and base.thinks is None
    assert "adapter" in arm.engine.options and "adapter" not in base.engine.options
    with open_chat(arm, max_tokens=4) as session:
        pieces = list(session.stream("one"))
        assert session.last is not None and session.last.usage.completion_tokens == 4
        assert session.last.status in ("length", "reasoning_only") and pieces is not None
    with pytest.raises(UsageError, match=r"trained no arm 'ful'.*full"):
        chat_target(Workspace(folder), "talk-1:ful")


@pytest.mark.parametrize(("use", "quantization"), [("torch_lora", "nf4"), ("mlx_lora", "4bit")])
def test_the_base_of_a_run_is_held_as_its_arms_were(use: str, quantization: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes" if quantization == "nf4" else "mlx.core")
    from localdistill.stages import train
    from tests.stages.test_training_arms import context_of
    from tests.trainers.rows import random_rows

    tiny_model(tmp_path / "student", "llama")
    text = RECIPE.replace("USE", use) + f'dtype = "float32"\nquantization = "{quantization}"\n'
    context = context_of(tmp_path, text, {"full": random_rows(4)}, recipe="")
    train.run(context)
    base, trained = (chat_target(context.workspace, f"{context.run.id}:{name}").engine for name in ("base", "full"))
    held = {key: base.options[key] for key in ("quantization", "dtype")}
    assert held == {key: trained.options[key] for key in held} == {"quantization": quantization, "dtype": "float32"}
    kept = context.held_base
    assert base.options.get("held") == trained.options.get("held") == (str(kept.path) if kept else None)
    assert (kept is None) is (use == "torch_lora") and "adapter" not in base.options


def test_what_a_training_left_finds_its_student_and_no_other_takes_it(trained: tuple[Path, str]) -> None:
    folder, engine = trained
    workspace = Workspace(folder)
    [output] = (folder / "artifacts" / "adapter").glob("[!.]*")
    for name in (output, output / "adapter"):
        target = chat_target(workspace, str(name))
        assert target.engine.use == engine and target.engine.options["model"] == str(folder / "student")
    elsewhere = Workspace(folder / "elsewhere")
    with pytest.raises(UsageError, match="no run of this workspace knows the student") as refused:
        chat_target(elsewhere, str(output))
    assert "--student" in refused.value.hint
    assert chat_target(elsewhere, str(output), student=str(folder / "student")).engine.options["adapter"]
    other = tiny_model(folder / "other", hidden=32, seed=3)
    with pytest.raises(ModelFileError, match="was trained on another student"):
        chat_target(workspace, str(output), student=str(other))


def test_a_folder_of_a_student_is_asked_by_the_usual_engine_or_the_one_that_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    student = tiny_model(tmp_path / "student", hidden=32)
    usual = chat_target(Workspace(tmp_path), str(student))
    assert usual.engine.use in ("transformers", "mlx") and usual.engine.options == {"model": str(student)}
    assert chat_target(Workspace(tmp_path), str(student), engine="mlx").engine.use == "mlx"
    assert chat_target(Workspace(tmp_path), "shipped:pantry/student").engine.options["model"] == str(
        shipped_path("pantry/student"))
    with pytest.raises(UsageError, match="has its context and its template by itself"):
        chat_target(Workspace(tmp_path), str(student), context_tokens=100)
    with pytest.raises(UsageError, match="is no adapter"):
        chat_target(Workspace(tmp_path), str(student), student=str(student))


def test_an_adapter_of_another_program_needs_the_name_of_its_student(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="says nothing of the student"):
        chat_target(Workspace(tmp_path), str(tmp_path / "adapter"))
    student = tiny_model(tmp_path / "student", hidden=32)
    target = chat_target(Workspace(tmp_path), str(tmp_path / "adapter"), student=str(student))
    assert target.engine.options == {"model": str(student), "adapter": str(tmp_path / "adapter")}


def test_any_engine_of_a_recipe_can_be_talked_to_and_what_costs_is_said(tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE.replace("USE", "torch_lora"))
    reply = {"messages": [{"role": "user", "content": "hello"}], "reasoning": "hm", "answer": "good day"}
    (tmp_path / "replies.jsonl").write_text(json.dumps(reply) + "\n")
    taped = engine_target(recipe, tmp_path, "taped")
    assert taped.title == "taped of talk" and taped.asks == ()
    with open_chat(taped) as session:
        assert "".join(piece.text for piece in session.stream("hello") if not piece.is_thinking).strip() == "good day"
    assert engine_target(recipe, tmp_path, "served").asks == ("models.example.org",)
    with pytest.raises(UsageError, match=r"no engine 'tape'.*taped"):
        engine_target(recipe, tmp_path, "tape")


def test_names_of_nobody_are_refused(tmp_path: Path) -> None:
    for name in ("nothing", "talk-9:full", "hf://just-a-name"):
        with pytest.raises(LocalDistillError):
            chat_target(Workspace(tmp_path), name)
    with pytest.raises(UsageError, match="only an adapter belongs to a student"):
        chat_target(Workspace(tmp_path), "x.gguf", student="y")


class Echo:
    """Answers with its name and the number of turns that it was told of."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last_reply: Reply | None = None

    def answer(self, requests: Any, emit: object, cancel: object) -> Iterator[Reply]:
        for request in requests:
            yield Reply(request.id, "complete", answer=f"{self.name} of {len(request.messages)}")

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        (self.last_reply,) = self.answer([request], silent, cancel)
        yield self.last_reply.answer


def test_two_models_have_the_same_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sessions = [ChatSession(Echo(name), name, Sampling()) for name in "ab"]
    for session in sessions:
        session.ask("first")
    share_history(sessions)
    assert [[one.content for one in session.messages] for session in sessions] == 2 * [["first", "a of 1"]]
    assert [session.ask("second").answer for session in sessions] == ["a of 3", "b of 3"]


def test_the_command_asks_two_models_and_names_their_answers(tmp_path: Path) -> None:
    reply = {"messages": [{"role": "user", "content": "hello"}], "answer": "good day"}
    (tmp_path / "replies.jsonl").write_text(json.dumps(reply) + "\n")
    (tmp_path / "talk.toml").write_text(RECIPE.replace("USE", "torch_lora"))
    words = ["chat", "taped", "--recipe", str(tmp_path / "talk.toml"), "--ask", "hello", "-w", str(tmp_path)]
    alone = CliRunner().invoke(cli, words)
    assert (alone.exit_code, alone.stdout) == (0, "good day\n"), alone.stderr
    both = CliRunner().invoke(cli, [*words, "--with", "taped", "--json"])
    assert [row["answer"] for row in json.loads(both.stdout)] == ["good day", "good day"]
    assert [row["model"] for row in json.loads(both.stdout)] == ["taped of talk"] * 2


def test_a_file_without_a_template_can_be_given_one(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    words = ["chat", str(shipped_path("pantry/teacher.gguf")), "--ask", "hi", "--max-tokens", "2"]
    given = CliRunner().invoke(cli, [*words, "--chat-template", str(tmp_path / "t.jinja"), "--json"])
    assert json.loads(given.stdout)["status"], given.stderr
    absent = CliRunner().invoke(cli, [*words, "--chat-template", str(tmp_path / "no.jinja")])
    assert absent.exit_code != 0
    assert "--chat-template" in CliRunner().invoke(cli, ["chat", "--help"]).stdout
