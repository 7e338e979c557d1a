"""The chat command says why there is no answer, or no whole one, and ends with a code that a script can trust."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from localdistill import shipped_path
from localdistill.api.models.chat_targets import ChatTarget
from localdistill.api.models.chatting import ChatSession
from localdistill.cli.app import app as cli
from localdistill.cli.chat import _converse
from localdistill.core.errors import EngineError, LocalDistillError
from localdistill.core.events import Cancel, Emit
from localdistill.core.records import Reply, Request, Sampling, Usage


class OneReply:
    """Answers everything in one way; none: it says nothing at all."""

    def __init__(self, **reply: Any) -> None:
        self._reply = reply
        self.last_reply: Reply | None = None

    def answer(self, requests: list[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        if self._reply:
            yield Reply(requests[0].id, **self._reply)

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        (self.last_reply,) = self.answer([request], lambda _: None, cancel)
        if self.last_reply.status == "error":
            raise EngineError(self.last_reply.error, "be brief")
        yield self.last_reply.answer


def chat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str, typed: str = "hello", **reply: Any) -> Result:
    """The command with an engine that gives this reply."""
    @contextmanager
    def opened(target: ChatTarget, max_tokens: int = 0, **_: object) -> Iterator[ChatSession]:
        yield ChatSession(OneReply(**reply), target.title, Sampling(max_tokens=max_tokens))

    monkeypatch.setattr("localdistill.api.models.chatting.open_chat", opened)
    (tmp_path / "m.gguf").touch()
    return CliRunner().invoke(cli, ["chat", str(tmp_path / "m.gguf"), *words], input=typed)


@pytest.mark.parametrize(("reply", "told"), [
    ({"status": "error", "error": "there was no room for it"}, "there was no room for it"),
    ({"status": "error"}, "there is no answer"),
    ({"status": "empty"}, "said nothing"),
    ({"status": "reasoning_only", "reasoning": "hm"}, "gave no answer"),
    ({"status": "refusal"}, "refused"),
    ({"status": "filtered"}, "filter"),
    ({"status": "length"}, "token limit"),
])
def test_a_reply_without_an_answer_fails_with_its_reason(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reply: dict[str, str], told: str) -> None:
    plain = chat(monkeypatch, tmp_path, **reply)
    assert plain.exit_code == 1 and plain.stdout == ""
    assert told in plain.stderr and "try: " in plain.stderr
    data = chat(monkeypatch, tmp_path, "--json", **reply)
    said = json.loads(data.stdout)
    assert data.exit_code == 1 and said["status"] == reply["status"] and told in said["error"] and told in data.stderr


@pytest.mark.parametrize(("status", "told"), [("length", "context is full"), ("looping", "repeated"),
                                              ("truncated", "stopped")])
def test_a_cut_answer_is_printed_and_said_to_be_cut(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, told: str) -> None:
    reply = {"status": status, "answer": "so far", "usage": Usage(completion_tokens=7)}
    plain = chat(monkeypatch, tmp_path, **reply)
    assert (plain.exit_code, plain.stdout) == (0, "so far\n") and told in plain.stderr
    assert told in json.loads(chat(monkeypatch, tmp_path, "--json", **reply).stdout)["error"]


def test_a_whole_answer_needs_no_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = chat(monkeypatch, tmp_path, status="complete", answer="yes")
    assert (plain.exit_code, plain.stdout, plain.stderr) == (0, "yes\n", "")
    assert json.loads(chat(monkeypatch, tmp_path, "--json", status="complete", answer="yes").stdout)["error"] == ""


@pytest.mark.parametrize("typed", ["", "  \n"])
def test_nothing_asked_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str) -> None:
    result = chat(monkeypatch, tmp_path, typed=typed, status="complete", answer="yes")
    assert isinstance(result.exception, LocalDistillError) and result.exception.exit_code == 2


def test_an_engine_that_says_nothing_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = chat(monkeypatch, tmp_path)
    assert isinstance(result.exception, EngineError) and "did not answer" in result.exception.message


def test_a_conversation_that_grew_too_long_says_so_and_goes_on(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter([{"status": "complete", "answer": "one"}, {"status": "error", "error": "no room left"},
                    {"status": "complete", "answer": "three"}])

    class Growing(OneReply):
        def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
            self._reply = next(replies)
            yield from super().stream(request, cancel)

    lines = iter(["first", "second", "third"])

    def typed(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("localdistill.cli.output.ask", typed)
    session = ChatSession(Growing(), "m", Sampling())
    _converse([session], False)
    told = capsys.readouterr()
    assert told.out.split() == ["one", "three"]
    assert "error: no room left" in told.err and "/new" in told.err
    assert [message.content for message in session.messages] == ["first", "one", "third", "three"]


def test_a_prompt_that_does_not_fit_a_real_file(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    words = ["chat", str(shipped_path("pantry/teacher.gguf")), "--json"]
    result = CliRunner().invoke(cli, words, input="plums and pears " * 4000)
    said = json.loads(result.stdout)
    assert result.exit_code == 1 and said["status"] == "error" and "context holds" in said["error"]
    assert "context holds" in result.stderr and "--context-tokens" in result.stderr
