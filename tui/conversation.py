"""One conversation with one model, as the chat screen drives it. The model lives in a process of its own from the
first question until it is let go; every method that waits is called in a worker. Knows no widget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from localdistill import Cancel, Cancelled, ChatSession, ChatTarget, LocalDistillError, Message, open_chat

TELL_EVERY_S = 0.05


@dataclass(frozen=True)
class ChatExchange:
    """One question and what came of it."""

    question: str
    thinking: str = ""
    answer: str = ""
    state: str = "loading"
    """`loading`, `writing`, `done` or `failed`."""
    ending: str = ""
    """How it ended when it was not by itself; the error's text when it failed."""
    hint: str = ""
    tokens: int = 0
    seconds: float = 0.0

    @property
    def is_open(self) -> bool:
        """More may come."""
        return self.state in ("loading", "writing")

    @property
    def rate(self) -> float:
        """New tokens per second; 0 when unknown."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class Conversation:
    """A model, the exchanges with it, and the process that answers."""

    def __init__(self, model: Path | ChatTarget, label: str) -> None:
        """model: a GGUF file, or whom `chat_target` found."""
        self.model, self.label = model, label
        self.told: bool | None = None
        """Whether it is told to think; None: it does as it was trained, or as its template says."""
        self.exchanges: tuple[ChatExchange, ...] = ()
        self._memory: list[Message] = []
        self._model: _Model | None = None

    @property
    def is_loaded(self) -> bool:
        """A process with the model runs."""
        return self._model is not None and self._model.is_loaded

    @property
    def place(self) -> str:
        """Where the model lies, or what it is called."""
        return str(self.model.engine.options.get("model", self.label)) if isinstance(self.model, ChatTarget) else str(
            self.model)

    @property
    def asks(self) -> tuple[str, ...]:
        """Hosts that may cost money."""
        return self.model.asks if isinstance(self.model, ChatTarget) else ()

    def follow(self, other: Conversation) -> None:
        """Remember what the other one remembers: the next question finds both in the same conversation."""
        self._memory = list(other._memory)

    @property
    def is_busy(self) -> bool:
        """A reply is being written."""
        return bool(self.exchanges) and self.exchanges[-1].is_open

    @property
    def answer(self) -> str:
        """The newest answer; empty when there is none."""
        return next((exchange.answer for exchange in reversed(self.exchanges) if exchange.answer), "")

    def begin(self, question: str) -> Callable[[Callable[[], None]], None]:
        """Note the question. Returns the work that gets the answer, for a worker: it calls the function it is given
        whenever there is something new to show, and raises nothing."""
        model = self._model = self._model or _Model(self.model)
        self.exchanges = (*self.exchanges, ChatExchange(question))
        return lambda told: self._answer(model, question, told)

    def stop(self) -> None:
        """End the reply that is being written; what is there is kept."""
        if self._model is not None:
            self._model.stop()

    def reset(self) -> None:
        """Forget all exchanges, the one that is being written too; the model stays loaded."""
        self.stop()
        self.exchanges, self._memory = (), []

    def close(self) -> None:
        """End the process. The exchanges stay, and the next question loads the model again."""
        model, self._model = self._model, None
        if model is not None:
            model.end()

    def _answer(self, model: _Model, question: str, told: Callable[[], None]) -> None:
        exchange, mine = ChatExchange(question), len(self.exchanges) - 1

        def show(new: ChatExchange) -> ChatExchange:
            if len(self.exchanges) > mine and self.exchanges[mine].is_open:
                self.exchanges = (*self.exchanges[:mine], new)
                told()
            return new

        try:
            with model.session() as session:
                session.messages = list(self._memory)
                session.thinks = model.thinks if self.told is None else self.told
                exchange = self._stream(session, show(replace(exchange, state="writing")), show)
                if self.exchanges[mine:]:
                    self._memory = session.messages
            show(exchange)
        except Cancelled:
            show(replace(exchange, state="done", ending="stopped"))
        except LocalDistillError as error:
            show(replace(exchange, state="failed", ending=error.message, hint=error.hint))
        except Exception as error:
            show(replace(exchange, state="failed", ending=f"{type(error).__name__}: {error}", hint=""))

    @staticmethod
    def _stream(session: ChatSession, exchange: ChatExchange,
                show: Callable[[ChatExchange], ChatExchange]) -> ChatExchange:
        began = shown_at = time.monotonic()
        thinking: list[str] = []
        answer: list[str] = []
        count = 0
        for piece in session.stream(exchange.question):
            (thinking if piece.is_thinking else answer).append(piece.text)
            count += 1
            now = time.monotonic()
            if now - shown_at >= TELL_EVERY_S:
                shown_at = now
                exchange = show(replace(exchange, thinking="".join(thinking), answer="".join(answer), tokens=count,
                                    seconds=now - began))
        reply = session.last
        assert reply is not None
        tokens = reply.usage.completion_tokens or count
        return replace(exchange, thinking=reply.reasoning.strip(), answer=reply.answer, state="done",
                       ending=session.ending, tokens=tokens,
                       seconds=reply.elapsed_s or time.monotonic() - began)


class _Model:
    """One process with the model. It ends at once when nobody uses it, else as soon as its user lets go."""

    def __init__(self, model: Path | ChatTarget) -> None:
        self._of = model
        self._lock = Lock()
        self._stack = ExitStack()
        self._session: ChatSession | None = None
        self._is_used = self._stopped = self._ended = False
        self.thinks: bool | None = None
        """What the session does by itself."""

    @property
    def is_loaded(self) -> bool:
        """The process is there and has the model."""
        return self._session is not None and not self._ended

    @contextmanager
    def session(self) -> Iterator[ChatSession]:
        """The session, with the model loaded."""
        with self._lock:
            self._stopped = False
            self._is_used = True
        try:
            if self._session is None:
                cancel = Cancel(lambda: self._ended or (self._stopped and self._session is None))
                self._session = self._stack.enter_context(open_chat(self._of, cancel=cancel))
                self.thinks = self._session.thinks
            yield self._session
        finally:
            with self._lock:
                self._is_used = False
                if self._ended:
                    self._stack.close()

    def stop(self) -> None:
        """End the present reply, or the loading."""
        self._stopped = True
        if self._session is not None:
            self._session.stop()

    def end(self) -> None:
        """End the process."""
        self.stop()
        with self._lock:
            self._ended = True
            if not self._is_used:
                self._stack.close()
