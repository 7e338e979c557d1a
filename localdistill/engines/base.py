"""The contract of engines: they answer messages, lazily and in any order, and own their concurrency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.providers import Price, Who, unsaid
from localdistill.spending.ledger import SpendLedger


class Engine(Protocol):
    """Answers requests; teacher, summarizer, judge and student under test are roles that it plays. Built as
    `Member(options)`; building is cheap and loads nothing heavy, the first `answer` does."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Who answers with these options, checked or not: terms, keys and money follow. By default a stranger."""
        return unsaid(options)

    def identity(self) -> str:
        """What answers: `sha256:...` of a model file, or host and model name. Goes into trace ids."""

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests`, in any order, each with its request's id. Pulls lazily, as many as it can hold in
        flight. A request that cannot be answered comes back as a reply with status `error`. Raises EngineUnavailable
        when the engine as a whole is gone after its retries (what was yielded before stays valid), EngineError when
        it refuses for good. After a cancel it stops pulling, ends what is in flight and returns."""

    def greedy_by(self, request: Request) -> str:
        """The setting (`temperature` ...) that makes every further sample of `request` the same reply, or nothing."""

    def close(self) -> None:
        """Free processes and memory. Harmless to call twice."""


class Streaming(Protocol):
    """Optional: an engine that can show one reply while it is written (chat)."""

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the raw reply text; reasoning and tags included."""


@runtime_checkable
class Metered(Protocol):
    """Optional: an engine whose answers may cost money. The stage gives it a ledger and a folder before it asks."""

    ledger: SpendLedger
    """Every call is reserved and settled here."""
    folder: Path | None
    """Where calls that outlive a process (batches) are remembered."""

    def price(self) -> Price | None:
        """What the answers cost; None when nobody knows."""
