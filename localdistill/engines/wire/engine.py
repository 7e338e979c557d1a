"""The engine behind every engine that asks over a network: requests in, replies out, in any order. What differs between
forms of API is a dialect and a body; what differs between providers is data."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import EngineError, LocalDistillError, UsageError
from localdistill.core.events import Cancel, Emit, Event
from localdistill.core.records import Reply, Request, Sampling, content_id
from localdistill.engines.wire.charges import most_new_tokens
from localdistill.engines.wire.collected import asked_tokens
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.dispatcher import Dispatcher, Job, Rules, Server
from localdistill.engines.wire.http import Target
from localdistill.engines.wire.options import MOST_IN_FLIGHT, WireOptions
from localdistill.engines.wire.rate_limiter import RateLimiter
from localdistill.keys.access import find_key
from localdistill.providers import Price, Who, host_of, provider, provider_names, provider_of_url, stated
from localdistill.safety.secrets import PieceCleaner
from localdistill.spending.ledger import SpendLedger
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END

_LISTEN_S = 0.1
_FEWEST_FED = 16
"""Jobs go to the dispatcher's thread in groups: to wake it costs as much as some of them."""
_BYTES_PER_MESSAGE = 32
_BYTES_PER_REQUEST = 256
"""What a chat template may add around the messages, generously."""
_SETTINGS = frozenset({
    "messages", "system", "model", "max_tokens", "max_completion_tokens", "temperature", "seed", "top_p", "top_k",
    "stop", "stop_sequences", "thinking", "chat_template_kwargs", "reasoning", "reasoning_effort", "enable_thinking"})
"""Keys of a body that are counted already, or that no model reads. Schemas, tools and what `extra` brings it may."""


class WireEngine:
    """Shared by all members; a member gives `_dialect` and `_body`. Not for use by two threads at once."""

    name: ClassVar[str]
    default_provider: ClassVar[str] = ""
    """The provider that is asked when the options name neither one nor an address."""

    def __init__(self, options: WireOptions) -> None:
        self.options = options
        self.ledger = SpendLedger()
        """Where money is counted; the stage puts the run's own ledger here."""
        self.folder: Path | None = None
        """Where batches under way are remembered; the stage puts a folder of the workspace here."""
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""
        self._dispatcher: Dispatcher | None = None

    # ---- what members give

    def _dialect(self) -> Dialect:
        raise NotImplementedError

    def _body(self, request: Request) -> dict[str, Any]:
        """The JSON body, without what makes it a stream. Raises UsageError when the request asks what it cannot."""
        raise NotImplementedError

    def _stream_keys(self) -> dict[str, Any]:
        return {"stream": True}

    def _asks(self) -> list[Any]:
        """Options that change what is asked, beside the messages; empty values change nothing."""
        return [self.options.extra]

    # ---- the contract

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """The hosts of the addresses, else that of the provider; a server on this machine costs what its price says."""
        named = str(options.get("provider") or cls.default_provider)
        known = provider(named) if named in provider_names() else None
        addresses, keys = stated(options, "base_url"), stated(options, "api_key_env")
        hosts = tuple(dict.fromkeys(map(host_of, addresses))) or ((known.hosts[0],) if known else ("",))
        owners = [known, *map(provider_of_url, addresses)]
        theirs = [owner.api_key_env for owner in owners if owner is not None and owner.api_key_env]
        return Who(hosts, str(options.get("provider") or ""), tuple(dict.fromkeys((*keys, *theirs))))

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset({"generate", "stream"})

    def identity(self) -> str:
        """Host and model name; with a suffix when options change what is asked."""
        asks = self._asks()
        suffix = "+" + content_id("asks", *asks).removeprefix("b2:")[:12] if any(asks) else ""
        return f"{self.options.host()}/{self.options.model}{suffix}"

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`. What goes over the wire decides: `extra` goes before the recipe, what the provider
        refuses is not sent, and what it ignores counts for nothing."""
        known = self.options.known()
        try:
            body = self._body(request)
        except UsageError:
            return ""
        if known is not None and not known.counts_temperature(request.thinks):
            return ""
        told = {key: body[key] for key in ("temperature", "top_k", "top_p") if isinstance(body.get(key), int | float)}
        return Sampling(**{"temperature": 1.0, **told}).greedy_by

    def price(self) -> Price | None:
        """What the answers cost, None when unknown."""
        return self.options.price()

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. EngineError: the key, the address or the model is refused for good. BudgetReached: the
        ledger's cap leaves no room for the next call."""
        if self.options.batch:
            from localdistill.engines.wire.batch.answering import answer_in_batches

            yield from answer_in_batches(self, requests, emit, cancel)
            return
        wire = self.connected()
        source, fed, came = iter(requests), 0, 0
        exhausted, fatal, stopped = False, None, False
        look_at = 0.0
        try:
            while True:
                if not stopped and time.monotonic() >= look_at:
                    look_at = time.monotonic() + _LISTEN_S / 2  # to ask costs a look at the disk
                    if cancel.is_set():
                        wire.stop(self.options.finish_s)
                        stopped = True
                wanted = wire.appetite() - (fed - came)
                if wanted >= _FEWEST_FED and not (exhausted or stopped or fatal):
                    jobs, exhausted, refused = self._jobs(source, wanted)
                    fed += len(jobs)
                    wire.feed(jobs)
                    yield from refused
                if (exhausted and came == fed) or ((fatal or stopped) and wire.is_idle() and wire.outcomes.empty()):
                    break
                try:
                    outcome = wire.outcomes.get(timeout=_LISTEN_S)
                except queue.Empty:
                    continue
                if isinstance(outcome, Reply):
                    came += 1
                    yield outcome
                elif isinstance(outcome, Event):
                    emit(outcome)
                else:
                    fatal = fatal or outcome
        finally:
            if stopped or fatal or came < fed:
                self.close()
        if fatal is not None:
            raise fatal

    def _jobs(self, source: Iterator[Request], count: int) -> tuple[list[Job], bool, list[Reply]]:
        """Up to `count` jobs, whether the source is at its end, and replies to requests that cannot be sent."""
        jobs: list[Job] = []
        refused: list[Reply] = []
        while len(jobs) < count:
            request = next(source, None)
            if request is None:
                return jobs, True, refused
            try:
                jobs.append(self.job(request, self.options.stream))
            except UsageError as problem:
                refused.append(Reply(request.id, "error", error=problem.message))
        return jobs, False, refused

    def job(self, request: Request, streams: bool) -> Job:
        """What the dispatcher needs of `request`. Raises UsageError when it asks what the engine cannot."""
        require(self, needed_by(request))
        body = self._body(request)
        size = sum(len(m.counted.encode("utf-8", "replace")) + _BYTES_PER_MESSAGE for m in request.messages)
        beside = {key: value for key, value in body.items() if key not in _SETTINGS}
        size += len(json.dumps(beside)) if beside else 0
        return Job(request.id, {**body, **self._stream_keys()} if streams else body,
                   most_new_tokens(body, request.sampling.max_tokens), size + _BYTES_PER_REQUEST,
                   asked_tokens(request.messages))

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the reply as they arrive, reasoning between think tags.

        `last_reply` holds the whole afterwards; one that ended without the server's word is `truncated`. Raises
        EngineError when the server refuses or fails: only being asked to wait is not a failure.
        """
        wire, pieces = self.connected(), _Pieces()
        self.last_reply = None
        job = self.job(request, True)
        job.on_piece = pieces.take
        job.retries = 0
        wire.feed([job])
        while self.last_reply is None and not cancel.is_set():
            yield from pieces.drained()
            try:
                outcome = wire.outcomes.get(timeout=_LISTEN_S / 4)
            except queue.Empty:
                continue
            if isinstance(outcome, LocalDistillError):
                self.close()
                raise outcome
            if isinstance(outcome, Reply):
                self.last_reply = outcome
        yield from pieces.drained()
        if rest := pieces.rest():
            yield rest
        if self.last_reply is None:
            self.close()
        elif self.last_reply.status == "error":
            raise EngineError(self.last_reply.error, "ask again, or check the server")

    def close(self) -> None:
        """Close connections and end the thread."""
        if self._dispatcher is not None:
            self._dispatcher.close()
        self._dispatcher = None

    def targets(self) -> list[Target]:
        """Every server with its key. Raises EngineError or UsageError when a key is missing or must not go there."""
        targets = []
        for place in self.options.places():
            key = find_key(place.api_key_env, host_of(place.base_url)) if place.api_key_env else None
            known = self.options.known()
            if place.api_key_env and key is None and not (known and known.is_local):
                named = self.options.provider or place.api_key_env
                raise EngineError(f"the environment variable {place.api_key_env} is not set and no key is stored",
                                  f"export {place.api_key_env}=... or: localdistill keys set {named}")
            dialect = self._dialect()
            targets.append(Target(place.base_url + dialect.path, key.reveal() if key else "", place.api_key_env,
                                  dialect))
        return targets

    def rules(self) -> Rules:
        """How patiently and at what price requests are asked."""
        options, known = self.options, self.options.known()
        return Rules(options.timeout_s, options.idle_s, options.patience_s, options.retries, options.backoff_s,
                     self.price(), known.may_lack_finish_reason if known else False,
                     f"{options.host()}/{options.model}")

    def connected(self) -> Dispatcher:
        """The dispatcher, started if need be."""
        if self._dispatcher is None:
            known = self.options.known()
            limits = known.limits if known else None
            per_minute = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute} if limits else {}
            most = min(MOST_IN_FLIGHT, (limits.concurrent_requests if limits else None) or MOST_IN_FLIGHT)
            servers = [
                Server(target, RateLimiter(place.concurrency or most, not place.concurrency,
                                    self.options.backoff_s, per_minute))
                for target, place in zip(self.targets(), self.options.places())
            ]
            self._dispatcher = Dispatcher(servers, self.rules(), self.ledger)
        return self._dispatcher


class _Pieces:
    """Texts on their way from the dispatcher's thread, with a think tag at every change of kind."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
        self._thinking, self._cleaner = False, PieceCleaner()

    def take(self, is_reasoning: bool, text: str) -> None:
        """Called by the dispatcher."""
        self._queue.put((is_reasoning, text))

    def drained(self) -> Iterator[str]:
        """What has come since the last call."""
        return filter(None, self._drained())

    def _drained(self) -> Iterator[str]:
        while not self._queue.empty():
            is_reasoning, text = self._queue.get()
            if is_reasoning != self._thinking:
                yield self._cleaner.end()
                self._thinking = is_reasoning
                yield THOUGHT_BEGIN if is_reasoning else THOUGHT_END
            yield self._cleaner.take(text)

    def rest(self) -> str:
        """What waited for more."""
        return self._cleaner.end()

