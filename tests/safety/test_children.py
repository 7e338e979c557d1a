from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel
from localdistill.core.records import Message, Prompt, Trace
from localdistill.exporters.gguf_parts import llama_client as exporting
from localdistill.graders.math import MathGrader
from localdistill.keys.access import find_key
from localdistill.safety.children import (
    PIPE,
    ChildDied,
    ChildTimeout,
    JsonChild,
    Process,
    child_environment,
    describe_exit,
    start,
)


def test_a_child_answers_line_by_line_and_leaves_when_its_input_closes() -> None:
    child = JsonChild("localdistill.templates.child")
    child.send({"key": "k", "source": "{{ a }}é", "context": {"a": "x" * 200_000}})
    assert child.receive(30)["text"] == "x" * 200_000 + "é"
    child.close()
    assert not child.is_alive()
    child.kill()


def test_a_silent_child_is_a_timeout_and_a_killed_one_a_death() -> None:
    child = JsonChild("localdistill.templates.child")
    with pytest.raises(ChildTimeout):
        child.receive(0.01)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied) as death:
        child.receive(30)
    assert death.value.returncode == -signal.SIGKILL
    assert "SIGKILL" in str(death.value)
    child.kill()


def test_what_a_child_prints_explains_its_death() -> None:
    child = JsonChild("localdistill.no_such_module")
    with pytest.raises(ChildDied) as death:
        child.receive(30)
    assert "no_such_module" in death.value.log
    child.kill()


def test_children_get_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-canary")
    monkeypatch.setenv("HARMLESS", "yes")
    environment = child_environment()
    assert "sk-canary" not in environment.values()
    assert environment["HARMLESS"] == "yes"


SECRETS = {
    "SOME_API_KEY": "canary", "OTHER_API_KEY_2": "canary", "HUB_TOKEN_READ": "canary", "DB_PWD": "canary",
    "BASIC_AUTH": "canary", "LAB": "sk-canary-0123456789abcdef", "STORE_URL": "https://me:canary@host.example/x",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables that hold keys, as names and values tell."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return SECRETS


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_known_by_name_or_by_value(name: str, secrets: dict[str, str]) -> None:
    assert name not in child_environment()


@pytest.mark.parametrize(("name", "value"), [
    ("PATH", "/bin"), ("PWD", "/here"), ("TOKENIZERS_PARALLELISM", "false"), ("HF_HOME", "/models"),
    ("KEYBOARD", "de"), ("HTTPS_PROXY", "http://proxy.example:8080"), ("CUDA_VISIBLE_DEVICES", "0")])
def test_what_is_no_secret_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert child_environment()[name] == value


def test_a_child_gets_the_secrets_that_are_named_and_passes_none_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable whose name and value look harmless is held back too by whoever was given it as a key."""
    monkeypatch.setenv("LABORATORY", "canary")
    monkeypatch.setenv("SOME_API_KEY", "canary")
    given = child_environment(secrets=("LABORATORY", "NOT_SET"))
    assert given["LABORATORY"] == "canary" and "SOME_API_KEY" not in given
    script = "from localdistill.safety.children import child_environment as c; print('LABORATORY' in c())"
    child = start([sys.executable, "-c", script], secrets=("LABORATORY",), stdout=PIPE)
    assert child.communicate()[0].strip() == b"False"


def test_a_key_that_was_looked_for_is_held_back_however_it_is_called(
        own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKSHOP_DOOR", "canary")
    assert find_key("WORKSHOP_DOOR", "127.0.0.1") is not None
    assert "canary" not in child_environment().values()


def environments() -> list[dict[str, str]]:
    """Of every process that this one has started and that still runs."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile, or is a zombie, which has none
            found.append(child.environ())
    return found


def test_no_child_of_any_part_sees_a_key(secrets: dict[str, str]) -> None:
    for module in ("localdistill.templates.child", "localdistill.store.conditions_child",
                   "localdistill.engines.llama_cpp_native.child"):
        child = JsonChild(module)
        assert not secrets.keys() & psutil.Process(child.pid).environ().keys(), module
        child.kill()
    grader = MathGrader(MathGrader.Options(children=1))
    prompt = Prompt((Message("user", "How many?"),), reference="4")
    assert grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", "\\boxed{4}")).value == 1
    seen = environments()
    assert seen and not any(secrets.keys() & environment.keys() for environment in seen)
    grader.close()


def test_the_child_that_exports_sees_no_key(
        secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = list[dict[str, str]]()

    def looks(child: Process, cancel: Cancel) -> int:
        seen.append(psutil.Process(child.pid).environ())
        child.kill()
        return child.wait()

    monkeypatch.setattr(exporting, "_wait", looks)
    monkeypatch.setattr(exporting, "_require_llama", lambda: None)
    with pytest.raises(LocalDistillError):
        exporting.run_llama({"action": "tokenize", "model": str(tmp_path / "m.gguf")}, "looking", Cancel())
    assert seen and not secrets.keys() & seen[0].keys()


def test_exit_codes_are_named() -> None:
    assert describe_exit(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert describe_exit(3) == "exit code 3"
