"""A conversation with one GGUF file, piece by piece, thinking told apart from the answer while it streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from localdistill.engines import ENGINES
from localdistill.errors import ModelFileError
from localdistill.events import Cancel, silent
from localdistill.records import Message, Reply, Request, Sampling, content_id
from localdistill.templates.thinking import TAG_PAIRS
from localdistill.workspace import check_file


@dataclass(frozen=True)
class ChatPiece:
    """Some text of a reply while it is written."""

    text: str
    is_thinking: bool


class ChatSession:
    """The turns so far and the engine that answers. Reasoning is not sent back in later turns. One thread talks, any
    other may call `stop`."""

    def __init__(self, engine: object, title: str, sampling: Sampling, cancel: Cancel | None = None) -> None:
        self.engine = engine
        self.title = title
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
        messages = (*self.messages, Message("user", text))
        self._stopped.clear()
        self.last = None
        return Request(content_id("chat", [[m.role, m.content] for m in messages]), messages, self.sampling)

    def _keep(self, text: str, reply: Reply) -> None:
        """Remember a turn. One without an answer (stopped while it thought) is as if it had not been asked."""
        self.last = reply
        if reply.answer:
            self.messages += [Message("user", text), Message("assistant", reply.answer)]

    def ask(self, text: str) -> Reply:
        """The whole reply to `text`."""
        request = self._request(text)
        reply: Reply = next(iter(self.engine.answer([request], silent, self.cancel)))  # type: ignore[attr-defined]
        self._keep(text, reply)
        return reply

    def stream(self, text: str) -> Iterator[ChatPiece]:
        """The reply to `text` as it is written, tags removed; `last` holds the whole afterwards. After an error
        (EngineError: the conversation is too long) the conversation is as it was before the question."""
        splitter = ThinkingSplitter()
        for piece in self.engine.stream(self._request(text), self.cancel):  # type: ignore[attr-defined]
            yield from splitter.feed(piece)
        yield from splitter.end()
        self._keep(text, self.engine.last_reply)  # type: ignore[attr-defined]


class ThinkingSplitter:
    """Tells thinking from answer in a stream of pieces; holds back text that may be the start of a tag."""

    def __init__(self) -> None:
        self.held = ""
        self.is_thinking = False
        self._at_start = True

    def feed(self, piece: str) -> Iterator[ChatPiece]:
        """The pieces that are certain after `piece`."""
        self.held += piece
        while True:
            tags = [pair[1] for pair in TAG_PAIRS] if self.is_thinking else [pair[0] for pair in TAG_PAIRS]
            found = [(self.held.find(tag), tag) for tag in tags if tag in self.held]
            if not found or (not self.is_thinking and not self._at_start):
                break
            position, tag = min(found)
            yield from self._say(self.held[:position])
            self.held = self.held[position + len(tag) :].lstrip("\n")
            self._at_start = self.is_thinking = not self.is_thinking
        keep = max((n for tag in tags for n in range(1, len(tag)) if self.held.endswith(tag[:n])), default=0)
        certain, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        yield from self._say(certain)

    def end(self) -> Iterator[ChatPiece]:
        """What was held back."""
        yield from self._say(self.held)
        self.held = ""

    def _say(self, text: str) -> Iterator[ChatPiece]:
        if not self.is_thinking and self._at_start:
            text = text.lstrip()
            self._at_start = not text
        if text:
            yield ChatPiece(text, self.is_thinking)


@contextmanager
def open_chat(model: Path, max_tokens: int = 1024, temperature: float = 0.0,
              cancel: Cancel | None = None) -> Iterator[ChatSession]:
    """A chat with the GGUF file `model`, which is loaded into a process of its own that ends with the context.

    `cancel` ends everything, loading too. Raises ModelFileError when the file is missing or damaged, Cancelled."""
    if not model.is_file():
        raise ModelFileError(f"{model} does not exist", "check the path of the model")
    check_file(model, (cancel or Cancel()).check)
    cls = ENGINES.load("llama_cpp")
    engine = cls(cls.Options(model=str(model), parallel=1, processes=1))
    outside = cancel or Cancel()
    try:
        for _ in engine.answer((), silent, outside):
            pass
        outside.check()
        yield ChatSession(engine, model.name, Sampling(max_tokens=max_tokens, temperature=temperature), outside)
    finally:
        engine.close()
