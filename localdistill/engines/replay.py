"""Answers from a recording: the fake that ships, for tests, demos and for working without a model.

It never invents: a question that the recording does not hold comes back as an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from localdistill.core.capabilities import CAPABILITIES, Capability
from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, Emit
from localdistill.core.options import FileName, Options
from localdistill.core.records import (
    Continuation,
    Message,
    Reply,
    Request,
    Status,
    TokenScores,
    TraceKind,
    Usage,
)
from localdistill.core.samples import EngineSample
from localdistill.engines._recordings import Recording, key_of, scores_from_json
from localdistill.providers import THIS_MACHINE, Who
from localdistill.templates import join_thinking, named_end, split_thinking, status_of_end

_CHARS_PER_TOKEN = 4
_POLL_S = 0.02


class ReplayOptions(Options):
    """Options of the `replay` engine."""

    path: FileName
    """JSONL file of recorded replies: `messages` or `question` (or `text`, which is gone on from), `answer`, and
    optionally `reasoning`, `raw`, `status`, `trace_kind`, `finish_reason`. Several rows of one question are its
    samples, in order. A row that records scores has, instead of the answer, `continuation` (or `token_ids`) and
    `scores` with `ids`, `logprobs` and, where wanted, `top_ids` and `top_logprobs`; a `tokenizer` is optional. An
    answer's own are its `token_scores`."""
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
            *_score_samples(),
        )

    def __init__(self, options: ReplayOptions) -> None:
        self._options = options
        self._path = Path(options.path)
        self._recording: Recording | None = None
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

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`. What was recorded of all this is for the recording to say."""
        return frozenset(CAPABILITIES)

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
        self._recording = None

    def _pause(self, cancel: Cancel) -> bool:
        """Wait the configured time; False when cancelled."""
        end = time.monotonic() + self._options.delay_s
        while (left := end - time.monotonic()) > 0 and not cancel.is_set():
            time.sleep(min(_POLL_S, left))
        return not cancel.is_set()

    def _reply(self, request: Request) -> Reply:
        if self._recording is None:
            self._recording = Recording(self._path)
        question = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        keys = (key_of(request.text, request.messages), key_of(None, [Message("user", question)]))
        if request.kind == "score":
            return _scored(request, self._recording, keys, request.text or question)
        found = next((key for key in keys if self._recording.replies(key)), None)
        if found is None:
            return _unknown(request, f"question: {question[:80]!r}")
        row = self._recording.reply(found, request.sample_index % self._recording.replies(found))
        try:
            scores = scores_from_json(row["token_scores"], request.top_logprobs) if request.top_logprobs else None
        except (KeyError, TypeError, ValueError) as error:
            return _failed(request, f"the recording does not serve log-probabilities: {error}")
        return replace(_reply_of(row, request.id), scores=scores)


def _score_samples() -> Sequence[EngineSample]:
    rows = """{"question": "2 + 2?", "continuation": "4", "scores": {"ids": [52, 7], "logprobs": [-0.5, -0.25],
        "top_ids": [[52, 53], [7, 8]], "top_logprobs": [[-0.5, -1.5], [-0.25, -2.0]]}}"""
    files, asked = {"said.jsonl": rows.replace("\n", " ")}, (Message("user", "2 + 2?"),)
    options, four = {"path": "said.jsonl"}, (Continuation("4"),)
    best = TokenScores((52, 7), (-0.5, -0.25), ((52,), (7,)), ((-0.5,), (-0.25,)))
    reply = Reply("", "complete", usage=Usage(2, estimated=True), continuations=(best,))
    return (
        EngineSample(asked, files, options=options, continuations=four, top_logprobs=1, reply=reply),
        EngineSample(asked, files, options=options, continuations=four, top_logprobs=3, refused="fewer than 3"),
        EngineSample(asked, files, options=options, continuations=(Continuation("5"),), refused="does not hold"),
    )


def _scored(request: Request, recording: Recording, keys: Sequence[str], asked: str) -> Reply:
    """What was recorded of each continuation, under the first of `keys` that holds it. asked: for people."""
    found = []
    for number, one in enumerate(request.continuations, 1):
        row = next((row for key in keys if (row := recording.scores(key, one.text, one.token_ids))), None)
        if row is None:
            return _unknown(request, f"continuation {number} of {asked[:80]!r}")
        tokenizer = str(row.get("tokenizer") or "")
        if one.token_ids and request.tokenizer and tokenizer not in ("", request.tokenizer):
            return _failed(request, f"the token ids were made for the tokenizer {request.tokenizer}, the recording "
                                    f"holds those of {tokenizer}")
        try:
            found.append(scores_from_json(row["scores"], request.top_logprobs))
        except ValueError as error:
            return _failed(request, f"the recording does not serve continuation {number}: {error}")
    return Reply(request.id, "complete", usage=Usage(sum(len(one.ids) for one in found), estimated=True),
                 cost_usd=0.0, continuations=tuple(found))


def _failed(request: Request, error: str) -> Reply:
    return Reply(request.id, "error", error=error, cost_usd=0.0)


def _unknown(request: Request, what: str) -> Reply:
    return _failed(request, f"the recording does not hold this {what}")


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
