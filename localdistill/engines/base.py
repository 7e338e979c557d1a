"""The contract of engines: they answer messages, lazily and in any order, and own their concurrency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from localdistill.core.capabilities import Capability
from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.providers import Price, Who, unsaid
from localdistill.spending.ledger import SpendLedger


class Engine(Protocol):
    """Answers requests, in whatever role. Built as `Member(options)`; what is heavy is loaded by the first `answer`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Who answers with these options, checked or not: terms, keys and money follow. By default a stranger."""
        return unsaid(options)

    def can(self) -> frozenset[Capability]:
        """What it does with these options; asks nobody. Other requests come back as errors, with nothing sent."""

    def identity(self) -> str:
        """What answers: `sha256:...` of a model file, or host and model name. Goes into trace ids."""

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests` in any order, each with its request's id; pulls lazily, as many as it holds in flight.
        A request that cannot be answered becomes a reply with status `error`. Raises EngineUnavailable when the engine
        is gone after its retries (what was yielded stays valid), EngineError when it refuses for good. After a cancel
        it stops pulling, ends what is in flight and returns."""

    def greedy_by(self, request: Request) -> str:
        """The setting (`temperature` ...) that makes every further sample of `request` the same reply, or nothing."""

    def close(self) -> None:
        """Free processes and memory. Harmless to call twice."""


class Streaming(Protocol):
    """Of an engine that can `stream`: pieces of the raw reply text, reasoning and tags included, then the whole."""
    last_reply: Reply | None
    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]: ...


@runtime_checkable
class Metered(Protocol):
    """Of an engine whose answers may cost money. The stage gives it a ledger, in which every call is reserved and
    settled, and a folder where calls that outlive a process (batches) are remembered."""
    ledger: SpendLedger
    folder: Path | None

    def price(self) -> Price | None:
        """What the answers cost; None when nobody knows."""
