"""What engines share that answer with a student's own files, whatever computes: the checked folder and its identity,
what is asked of it, and how it is streamed. Loads no library."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from localdistill.core.capabilities import needed_by, require
from localdistill.core.errors import EngineError, TemplateRefused
from localdistill.core.events import Cancel
from localdistill.core.options import FileName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Reply, Request
from localdistill.engines._continuations import ScoringTarget, refuse_strange_ids, target_ids
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.student_rows import Asked, StudentRow, StudentRows
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.providers import THIS_MACHINE, Who

if TYPE_CHECKING:
    from localdistill.engines.base import Engine
    from localdistill.modelfiles.adapted import AdaptedBase

_DIGITS = 12
"""Of the hash of a template, for people."""


class StudentOptions(BaseOptions):
    """What every such engine is told."""

    model: FileName
    """The student: a folder, `shipped:NAME` or `hf://organisation/name`."""
    adapter: FileName = ""
    """Folder of an adapter to add; empty answers with the base model."""
    batch_rows: int = Field(32, ge=1)
    """Prompts answered at once at most."""
    max_batch_tokens: int = Field(32768, ge=1)
    """Tokens that rows may hold at once, padded to the longest of them; bounds the memory. A single row may be
    longer."""


class StudentEngine(ABC):
    """The part that knows no library."""

    def __init__(self, options: StudentOptions) -> None:
        self._student = options
        self._folder: ModelFolder | None = None
        self._rows: StudentRows | None = None
        self._base: AdaptedBase | None = None
        """The base as it was loaded, on which the adapter is put; None before the first answer."""
        self._model: Any = None
        """What answers: the base with the adapter on."""
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Nobody is asked."""
        return THIS_MACHINE

    @property
    def folder(self) -> ModelFolder:
        """The checked student. Raises ModelFileError."""
        if self._folder is None:
            self._folder = ModelFolder.open(resolve_model(self._student.model))
        return self._folder

    @property
    def rows(self) -> StudentRows:
        """How it is asked, and its replies."""
        if self._rows is None:
            self._rows = StudentRows(self.folder, self.context_length)
        return self._rows

    @property
    def tokenizer(self) -> StudentTokenizer:
        """The student's tokenizer."""
        return self.rows.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens of prompt and reply that it reads as the student means them."""
        return self.folder.context_length

    def adapter(self) -> AdapterFolder | None:
        """The checked adapter, where one is added. Raises ModelFileError."""
        return AdapterFolder.open(self._student.adapter, self.folder) if self._student.adapter else None

    def take_over(self, other: Engine) -> bool:
        """Go on with what `other` loaded, as `stages.relay` asks."""
        if (not isinstance(other, type(self)) or other._student.model != self._student.model
                or other._arithmetic() != self._arithmetic()):
            return False
        self._folder, self._rows = other._folder, other._rows
        self._base, other._base = other._base, None
        other.close()
        return True

    def close(self) -> None:
        """Free the model."""
        self._base = self._model = None

    @property
    def model(self) -> Any:
        """The student with its adapter, loaded when it is first asked for."""
        if self._model is None:
            adapter = self.adapter()
            if adapter is not None:
                adapter.require_fitted_to(self._held_as())
            if self._base is None:
                self._base = self._loaded()
            self._model = self._base.put_on(adapter)
        return self._model

    @abstractmethod
    def _loaded(self) -> AdaptedBase:
        """The base, loaded."""

    def _held_as(self) -> str:
        """How the weights are held, where an adapter may have been fitted to them alone."""
        return ""

    def identity(self) -> str:
        """`sha256:...` of the student, `+sha256:...` of the adapter."""
        adapter = self.adapter()
        return self.folder.digest() if adapter is None else f"{self.folder.digest()}+{adapter.digest()}"

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`."""
        return request.sampling.greedy_by

    def computes_with(self) -> Mapping[str, str]:
        """See `core.capabilities.Computing`."""
        digest = hashlib.sha256(self.rows.template.source.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        return {**self._arithmetic(), "template": digest}

    @abstractmethod
    def _arithmetic(self) -> Mapping[str, str]:
        """Arithmetic, device and how weights are held."""

    # ---- questions

    def _targets(self, request: Request) -> list[ScoringTarget]:
        """What is to be scored. Raises Unscorable."""
        refuse_strange_ids(request, lambda: self.tokenizer.identity)
        prefix = tuple(self.rows.prompt(request)[1])
        found = target_ids(request.continuations, prefix, self.tokenizer.encode, self.folder.vocab_size,
                           self.context_length)
        return [ScoringTarget(prefix, ids, request.top_logprobs) for ids in found]

    # ---- streams

    @abstractmethod
    def _write_one(self, asked: Asked, cancel: Cancel, on_token: Callable[[StudentRow], None]) -> None:
        """Write one row, telling of every token. Called in a thread of its own."""

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the raw reply to one request as it is written. Raises EngineError when the prompt is too long or
        refused by the student's template."""
        require(self, {"stream", *needed_by(request)})  # type: ignore[arg-type]
        try:
            asked = self.rows.asked(request)
        except TemplateRefused as refusal:
            raise EngineError(refusal.message, refusal.hint) from None
        if asked.room <= 0:
            raise EngineError(self.rows.too_long(asked).error, "shorten the conversation")
        pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        gone, began = threading.Event(), time.monotonic()
        self.last_reply = None
        row: StudentRow | None = None
        shown = 0

        def on_token(written: StudentRow) -> None:
            nonlocal shown, row
            row, text = written, self.rows.text(request, written)
            # A character may span tokens: its bytes are held back until the last one is there.
            if written.finish or not text.endswith("\ufffd"):
                pieces.put(text[shown:])
                shown = len(text)

        def work() -> None:
            try:
                self._write_one(asked, Cancel(lambda: gone.is_set() or cancel.is_set()), on_token)
                pieces.put(None)
            except BaseException as error:
                pieces.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                if piece:
                    yield piece
            if row is not None:
                self.last_reply = self.rows.reply(asked, row, time.monotonic() - began)
        finally:
            gone.set()
            worker.join()
