from __future__ import annotations

import os
import signal

import pytest

from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild, child_environment, describe_exit


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


def test_exit_codes_are_named() -> None:
    assert describe_exit(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert describe_exit(3) == "exit code 3"
