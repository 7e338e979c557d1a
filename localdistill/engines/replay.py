"""Answers from a recording: the fake that ships, for tests, demos and for working without a model.

It never invents: a question that the recording does not hold comes back as an error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import Field

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, Emit
from localdistill.core.options import FileName, Options
from localdistill.core.records import Message, Reply, Request, Status, TraceKind, Usage, content_id
from localdistill.core.samples import EngineSample
from localdistill.providers import THIS_MACHINE, Who
from localdistill.templates import join_thinking, named_end, split_thinking, status_of_end

_CHARS_PER_TOKEN = 4
_POLL_S = 0.02


class ReplayOptions(Options):
    """Options of the `replay` engine."""

    path: FileName
    """JSONL file of recorded replies: `messages` or `question`, `answer`, and optionally `reasoning`, `raw`, `status`,
    `trace_kind`, `finish_reason`. Several rows of one question are its samples, in order."""
    delay_s: float = Field(default=0.0, ge=0)
    """Seconds to wait before each reply, to look like a model at work. 0 answers at once."""


class ReplayEngine:
    """Looks replies up by the exact messages, else by the text of the last question."""

    Options: ClassVar[type[Options]] = ReplayOptions
    name: ClassVar[str] = "replay"

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        files = {"said.jsonl": """{"question": "What is 2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."}"""}
        usage, options = Usage(0, 9, 3, estimated=True), {"path": "said.jsonl"}
        unknown = "the recording does not hold this question"
        return (
            EngineSample(files=files, options=options,
                         reply=Reply("", "complete", "Two and two.", "It is 4.", trace_kind="raw", usage=usage)),
            EngineSample((Message("user", "What is 3 + 3?"),), files, options=options, refused=unknown),
            EngineSample(files={"said.jsonl": "{}\n"}, options=options, refused="row 1 is not a recorded reply"),
        )

    def __init__(self, options: ReplayOptions) -> None:
        self._options = options
        self._path = Path(options.path)
        self._rows: dict[str, list[Mapping[str, Any]]] | None = None
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Nobody is asked: whose words a recording holds was for whoever recorded them to decide."""
        return THIS_MACHINE

    def identity(self) -> str:
        """`sha256:...` of the recording."""
        from localdistill.safety.files import sha256_file

        if not self._path.is_file():
            raise InputError(f"{self._path} does not exist", "check the path of the recording")
        return sha256_file(self._path)

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`. Samples are the recording's own rows, however they were made."""
        return ""

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. Raises InputError that names the row when the recording cannot be read."""
        for request in requests:
            if not self._pause(cancel):
                return
            yield self._reply(request)

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """The recorded reply, word by word. `last_reply` holds it afterwards."""
        self.last_reply = self._reply(request)
        for word in self.last_reply.raw.splitlines(keepends=True):
            if not self._pause(cancel):
                return
            yield word

    def close(self) -> None:
        """Forget the recording."""
        self._rows = None

    def _pause(self, cancel: Cancel) -> bool:
        """Wait the configured time; False when cancelled."""
        end = time.monotonic() + self._options.delay_s
        while (left := end - time.monotonic()) > 0 and not cancel.is_set():
            time.sleep(min(_POLL_S, left))
        return not cancel.is_set()

    def _reply(self, request: Request) -> Reply:
        if self._rows is None:
            self._rows = _read(self._path)
        question = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        found = self._rows.get(_key_of(request.messages)) or self._rows.get(_key_of([Message("user", question)]))
        if not found:
            return Reply(request.id, "error", error=f"the recording does not hold this question: {question[:80]!r}",
                         cost_usd=0.0)
        return _reply_of(found[request.sample_index % len(found)], request.id)


def _key_of(messages: Iterable[Message]) -> str:
    return content_id("messages", [[m.role, m.content] for m in messages])


def _read(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    key, row = _row(line, f"{path}, row {number}")
                    rows.setdefault(key, []).append(row)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "check the path of the recording") from None
    return rows


def _row(line: str, where: str) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
        messages = [Message(m["role"], m["content"]) for m in row["messages"]] if "messages" in row else [
            Message("user", row["question"])]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{where} is not a recorded reply: {error}", "needs `messages` or `question`") from None
    if row.get("status", "complete") not in get_args(Status) or row.get("trace_kind", "raw") not in get_args(TraceKind):
        raise InputError(f"{where} has an unknown status or trace_kind", f"known: {', '.join(get_args(Status))}")
    if not any(isinstance(row.get(key), str) for key in ("answer", "raw")) and row.get("status") != "error":
        raise InputError(f"{where} has neither `answer` nor `raw`", "add the answer")
    return _key_of(messages), row


def _reply_of(row: Mapping[str, Any], request_id: str) -> Reply:
    reasoning, answer, raw = (str(row.get(key) or "") for key in ("reasoning", "answer", "raw"))
    ended: Status | None = "complete"
    if not reasoning and not answer:
        split = split_thinking(raw)
        reasoning, answer = split.reasoning, split.answer
        ended = "truncated" if split.found and not split.closed else ended
    raw = raw or (join_thinking(reasoning, answer) if reasoning else answer)
    reason, error = named_end(row.get("finish_reason")), str(row.get("error") or "")
    ended = status_of_end(reason) if reason else ended
    if ended == "complete":
        ended = "complete" if answer else "reasoning_only" if reasoning else "empty"
    status: Status = row.get("status") or ended or "error"
    if status == "error" and ended is None:
        error = error or f"unknown finish reason {reason!r}"
    kind: TraceKind = row.get("trace_kind") or ("raw" if reasoning else "none")
    tokens = len(raw) // _CHARS_PER_TOKEN
    usage = Usage(0, tokens, len(reasoning) // _CHARS_PER_TOKEN, estimated=True)
    return Reply(request_id, status, reasoning, answer, raw, kind, finish_reason=reason or "replay", usage=usage,
                 cost_usd=0.0, error=error)
