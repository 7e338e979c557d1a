"""A conversation with a model, piece by piece, thinking told apart from the answer while it streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from localdistill.api.models.chat_targets import ChatTarget, gguf_target
from localdistill.core.capabilities import require
from localdistill.core.errors import EngineError, ModelFileError, UsageError
from localdistill.core.events import Cancel, Emit, Warned, silent
from localdistill.core.records import Message, Reply, Request, Sampling, Status, content_id
from localdistill.engines import ENGINES
from localdistill.engines.base import Streaming
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.modelfiles.shipped import resolve_path
from localdistill.runs.device_queue import CHAT, using
from localdistill.runs.device_turns import any_device, holds_model
from localdistill.stages.context import build_member
from localdistill.templates.marks import Mark, hit_at, hits, may_grow_into_opening, opened_by
from localdistill.workspace.folder import check_file

_ENDINGS: Mapping[Status, str] = {
    "complete": "", "truncated": "stopped", "length": "cut at the token limit", "looping": "cut: it repeated itself",
    "empty": "it said nothing", "reasoning_only": "it thought and gave no answer", "refusal": "it refused to answer",
    "filtered": "a filter held the answer back", "error": "there is no answer",
}


def ending_of(reply: Reply, max_tokens: int = 0) -> str:
    """How a reply ended when it did not end by itself: why there is less than a whole answer. Empty for a whole one.
    max_tokens: the limit that was asked for, to tell it from a full context; 0 when unknown."""
    if reply.status == "length" and 0 < reply.usage.completion_tokens < max_tokens:
        return f"cut after {reply.usage.completion_tokens:,} tokens: the context is full"
    ending = _ENDINGS.get(reply.status, reply.status)
    return reply.error if reply.status == "error" and reply.error else ending


@dataclass(frozen=True)
class ChatPiece:
    """Some text of a reply while it is written."""

    text: str
    is_thinking: bool


class ChatEngine(Streaming, Protocol):
    """An engine that can be talked to."""

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`."""


class ChatSession:
    """The turns so far and the engine that answers. Reasoning is not sent back in later turns. One thread talks, any
    other may call `stop`."""

    def __init__(self, engine: ChatEngine, title: str, sampling: Sampling, cancel: Cancel | None = None,
                 thinks: bool | None = None) -> None:
        """thinks: whether it is to think; None leaves it to its template."""
        self.engine = engine
        self.title = title
        self.thinks = thinks
        self.sampling = sampling
        self.messages: list[Message] = []
        self.last: Reply | None = None
        """The newest reply, with its status, tokens and seconds."""
        self._stopped = Event()
        outside = cancel or Cancel()
        self.cancel = Cancel(lambda: self._stopped.is_set() or outside.is_set())

    def reset(self) -> None:
        """Forget all turns."""
        self.messages = []
        self.last = None

    def stop(self) -> None:
        """End the reply that is being written; what is there of it is kept. Asking again works as before."""
        self._stopped.set()

    def _request(self, text: str) -> Request:
        if not text.strip():
            raise UsageError("nothing was asked", "type a question")
        messages = (*self.messages, Message("user", text))
        self._stopped.clear()
        self.last = None
        return Request(content_id("chat", [[m.role, m.content] for m in messages]), messages, self.sampling,
                       thinks=self.thinks)

    def _keep(self, text: str, reply: Reply) -> None:
        """Remember a turn. One without an answer (stopped while it thought, refused by the engine) is as if it had not
        been asked."""
        self.last = reply
        if reply.answer and reply.status != "error":
            self.messages += [Message("user", text), Message("assistant", reply.answer)]

    def ask(self, text: str) -> Reply:
        """The whole reply to `text`; `ending` says what is wrong with it. Raises Cancelled, EngineError when the engine
        says nothing at all."""
        request = self._request(text)
        replies: list[Reply] = list(self.engine.answer([request], silent, self.cancel))
        if not replies:
            self.cancel.check()
            raise EngineError(f"{self.title} did not answer", "ask again")
        self._keep(text, replies[0])
        return replies[0]

    @property
    def ending(self) -> str:
        """Why there is less than a whole answer to the newest question; empty when it is whole."""
        return ending_of(self.last, self.sampling.max_tokens) if self.last else ""

    def stream(self, text: str) -> Iterator[ChatPiece]:
        """The reply to `text` as it is written, tags removed; `last` holds the whole afterwards. After an error
        (EngineError: the conversation is too long) the conversation is as it was before the question."""
        splitter, request = ThinkingSplitter(), self._request(text)
        said = list[ChatPiece]()
        for raw in self.engine.stream(request, self.cancel):
            for piece in splitter.feed(raw):
                said.append(piece)
                yield piece
        for piece in splitter.end():
            said.append(piece)
            yield piece
        reply = self.engine.last_reply
        if reply is None and not self.cancel.is_set():
            raise EngineError(f"{self.title} did not answer", "ask again")
        self._keep(text, reply or _so_far(request, said))


def share_history(sessions: Sequence[ChatSession], of: int = 0) -> None:
    """Let all of them remember what the one at the place `of` remembers, so that the next question finds them all in
    the same conversation, and their answers can be compared."""
    for session in sessions:
        session.messages = list(sessions[of].messages)


def _so_far(request: Request, said: Sequence[ChatPiece]) -> Reply:
    """What came of a reply that was stopped before its engine could tell of it."""
    thinking, answer = ("".join(piece.text for piece in said if piece.is_thinking is kind) for kind in (True, False))
    return Reply(request.id, "truncated", thinking.strip(), answer.strip())


class ThinkingSplitter:
    """Tells thinking from answer in a stream of pieces; holds back text that may be the start of a tag."""

    def __init__(self) -> None:
        self.held = ""
        self._mark: Mark | None = None
        self._at_start = True

    @property
    def is_thinking(self) -> bool:
        """A block of reasoning is open."""
        return self._mark is not None

    def feed(self, piece: str) -> Iterator[ChatPiece]:
        """The pieces that are certain after `piece`."""
        self.held += piece
        if self._at_start:
            self.held = self.held.lstrip()
            if may_grow_into_opening(self.held):
                return
            first = hit_at(self.held)
            self._mark = opened_by(first.text) if first else None
            self._at_start = False
            if first is not None and self._mark is not None:
                self.held = self.held[first.end:].lstrip("\n")
        keep = 0
        if self._mark is not None:
            closing = next((hit for hit in hits(self.held) if hit.text == self._mark.closing), None)
            if closing is not None:
                yield from self._say(self.held[:closing.start])
                self.held, self._mark = self.held[closing.end:].lstrip("\n"), None
            else:
                end = self._mark.closing.casefold()
                keep = max((n for n in range(1, len(end)) if self.held[-n:].casefold() == end[:n]), default=0)
        certain, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        yield from self._say(certain)

    def end(self) -> Iterator[ChatPiece]:
        """What was held back."""
        yield from self._say(self.held)
        self.held = ""

    def _say(self, text: str) -> Iterator[ChatPiece]:
        if text:
            yield ChatPiece(text, self.is_thinking)


@contextmanager
def open_chat(model: Path | ChatTarget, max_tokens: int = 1024, temperature: float = 0.0, cancel: Cancel | None = None,
              emit: Emit = silent) -> Iterator[ChatSession]:
    """A chat with a GGUF file, or with whom `chat_target` found; what it loads is let go with the context. emit: who is
    told what the loading has to say.

    `cancel` ends everything, loading too. Raises ModelFileError when a file is missing or damaged, UsageError for an
    engine that cannot be talked to, Cancelled."""
    target = model if isinstance(model, ChatTarget) else gguf_target(model)
    outside = cancel or Cancel()
    if target.engine.use == "llama_cpp":
        file = resolve_path(str(target.engine.options["model"]), target.base)
        if not file.is_file():
            raise ModelFileError(f"{file} does not exist", "check the path of the model")
        check_file(file, outside.check)
    engine = build_member(ENGINES, target.engine, target.base)
    with _counted(target, emit), closing(engine):
        require(engine, {"generate", "stream"}, target.title)
        for _ in engine.answer((), emit, outside):
            pass
        outside.check()
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
        yield ChatSession(engine, target.title, sampling, outside, target.thinks)


@contextmanager
def _counted(target: ChatTarget, emit: Emit) -> Iterator[None]:
    """The chat stands in the queue of its device, where it waits for nobody, and is told of trainings there."""
    if not holds_model(target.engine.use, target.engine.options):
        yield
        return
    with using(any_device(look_at_hardware()), CHAT, target.title) as ticket:
        for text in ticket.slowed_by() if ticket else ():
            emit(Warned(text))
        yield
