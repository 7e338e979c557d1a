"""Answers through any server that speaks chat completions: a provider, vLLM, llama-server, Ollama, LM Studio.

A thin client of our own keeps the raw reply, so that nothing a server said is lost to a library's idea of it. Keys
come from an environment variable that the options name, never from the options.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from localdistill.engines.openai_wire.client import Target, WireClient
from localdistill.errors import EngineError, LocalDistillError
from localdistill.events import Cancel, Emit
from localdistill.options import Options
from localdistill.records import Reply, Request, content_id

_LISTEN_S = 0.1
_SPARE_CONNECTIONS = 2


class OpenAICompatibleOptions(Options):
    """Options of the `openai_compatible` engine."""

    base_url: str
    """Address in front of `/chat/completions`, for example `http://127.0.0.1:8080/v1`."""
    model: str
    """Name of the model as the server knows it."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key. Empty sends none. With a key the address must be https,
    unless it is this machine."""
    concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests in flight at most; fewer while the server says that it is asked too much."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds one reply may take."""
    retries: int = Field(default=5, ge=0)
    """Further tries of a request after failures that may pass. Waiting as long as the server asks is not a try."""
    backoff_s: float = Field(default=0.5, gt=0)
    """Seconds before the first retry; each further one waits twice as long, at most 30 s."""
    thinking_switch: Literal["none", "chat_template_kwargs", "thinking", "reasoning", "reasoning_effort"] = "none"
    """How this server is told to think or not: `chat_template_kwargs` (vLLM, SGLang, llama-server), `thinking`
    (DeepSeek), `reasoning` (OpenRouter), `reasoning_effort` (OpenAI, Ollama). `none` leaves the server's default."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the limit on new tokens; some newer models accept only the longer one."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further keys merged into every request's body, for example `{provider = {order = ["x"]}}`. Never a key."""
    usd_per_million_input: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens in US dollars. Unset: unknown."""
    usd_per_million_output: float | None = Field(default=None, ge=0)
    """Price of a million new tokens in US dollars, reasoning included. Unset: unknown."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not hold a user, a password, a query or a fragment")
        address = _literal_address(parts.hostname)
        if address is not None and address.is_link_local:
            raise ValueError("must not be a link-local address")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _key_is_protected(self) -> OpenAICompatibleOptions:
        parts = urlsplit(self.base_url)
        if self.api_key_env and parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
            raise ValueError("a key is only sent over https, or to this machine")
        return self


class OpenAICompatibleEngine:
    """One model on one server behind the engine contract."""

    Options: ClassVar[type[Options]] = OpenAICompatibleOptions
    name: ClassVar[str] = "openai_compatible"

    def __init__(self, options: OpenAICompatibleOptions) -> None:
        self._options = options
        self._client: WireClient | None = None
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

    def identity(self) -> str:
        """Host and model name; with a suffix when `extra` or the thinking switch change what is asked."""
        changes = [self._options.extra, self._options.thinking_switch]
        suffix = "+" + content_id("asks", *changes).removeprefix("b2:")[:12] if changes != [{}, "none"] else ""
        return f"{urlsplit(self._options.base_url).netloc}/{self._options.model}{suffix}"

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. EngineError: the key, the address or the model is refused for good."""
        client = self._connected()
        lane = _Lane(self._options.concurrency)
        source = iter(requests)
        done: queue.SimpleQueue[Future[Reply]] = queue.SimpleQueue()
        in_flight: set[Future[Reply]] = set()
        exhausted, fatal = False, None
        try:
            while not cancel.is_set():
                while not exhausted and fatal is None and len(in_flight) < lane.width(client):
                    request = next(source, None)
                    if request is None:
                        exhausted = True
                        break
                    future = client.submit(client.ask(request.id, self._body(request), request.sampling.max_tokens))
                    in_flight.add(future)
                    future.add_done_callback(done.put)
                if not in_flight:
                    break
                try:
                    future = done.get(timeout=_LISTEN_S)
                except queue.Empty:
                    continue
                in_flight.discard(future)
                try:
                    yield self._priced(future.result())
                except LocalDistillError as error:
                    fatal = fatal or error
                    client.stop_retrying()
        finally:
            for future in in_flight:
                future.cancel()
        if fatal is not None:
            self.close()
            raise fatal

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the reply as they arrive, reasoning between think tags.

        `last_reply` holds the whole afterwards; one that ended without the server's word is `truncated`. Raises
        EngineError when the server refuses.
        """
        client = self._connected()
        pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.last_reply = None

        async def pump() -> None:
            async for item in client.stream(request.id, self._body(request), request.sampling.max_tokens):
                pieces.put(item)

        future = client.submit(pump())
        future.add_done_callback(pieces.put)
        try:
            yield from self._tagged(pieces, cancel)
        finally:
            future.cancel()
        if future.cancelled():
            return
        try:
            future.result()
        except LocalDistillError:
            raise
        except Exception as error:
            raise EngineError(f"{client.target.url} failed: {error}", "ask again, or check the server") from None

    def _tagged(self, pieces: queue.SimpleQueue[Any], cancel: Cancel) -> Iterator[str]:
        """Texts until the pump ends, with a think tag at every change between reasoning and answer."""
        thinking = False
        while not cancel.is_set():
            try:
                item = pieces.get(timeout=_LISTEN_S)
            except queue.Empty:
                continue
            if isinstance(item, Future):
                return
            if isinstance(item, Reply):
                self.last_reply = self._priced(item)
                continue
            is_reasoning, text = item
            if is_reasoning != thinking:
                yield "<think>\n" if is_reasoning else "\n</think>\n\n"
                thinking = is_reasoning
            yield text

    def close(self) -> None:
        """Close connections and end the thread."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _connected(self) -> WireClient:
        options = self._options
        if self._client is None:
            key = os.environ.get(options.api_key_env, "").strip() if options.api_key_env else ""
            if options.api_key_env and not key:
                raise EngineError(f"the environment variable {options.api_key_env} is not set",
                                  f"export {options.api_key_env}=... with the key for {options.base_url}")
            self._client = WireClient(Target(
                url=f"{options.base_url}/chat/completions", key=key, key_name=options.api_key_env,
                timeout_s=options.timeout_s, retries=options.retries, first_backoff_s=options.backoff_s,
                connections=options.concurrency + _SPARE_CONNECTIONS,
            ))
        return self._client

    def _body(self, request: Request) -> dict[str, Any]:
        """The JSON body. A top-p or top-k that changes nothing is left out, as some servers refuse it."""
        sampling, options = request.sampling, self._options
        body: dict[str, Any] = {
            "model": options.model, "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            options.max_tokens_field: sampling.max_tokens, "temperature": sampling.temperature,
            "seed": (sampling.seed + request.sample_index) % 2**31,
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k > 0:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return {**body, **_thinking(options.thinking_switch, request.thinks), **options.extra}

    def _priced(self, reply: Reply) -> Reply:
        """With the cost, where both prices are known. Cached tokens count as others: never less than the truth."""
        into, out = self._options.usd_per_million_input, self._options.usd_per_million_output
        if into is None or out is None:
            return reply
        cost = (reply.usage.prompt_tokens * into + reply.usage.completion_tokens * out) / 1e6
        return dataclasses.replace(reply, cost_usd=cost)


class _Lane:
    """How many requests may be in flight: three quarters after each 429, one more after each round of successes."""

    def __init__(self, most: int) -> None:
        self._most, self._width = most, float(most)
        self._slowdowns = self._successes = 0

    def width(self, client: WireClient) -> int:
        """The width now, from what the client has seen."""
        if client.slowdowns > self._slowdowns:
            self._width = max(1.0, self._width * 0.75)
        self._width = min(float(self._most), self._width + max(0, client.successes - self._successes) / self._width)
        self._slowdowns, self._successes = client.slowdowns, client.successes
        return int(self._width)


def _thinking(switch: str, thinks: bool | None) -> dict[str, Any]:
    """The body's keys that turn thinking on or off."""
    if thinks is None or switch == "none":
        return {}
    if switch == "chat_template_kwargs":
        return {"chat_template_kwargs": {"enable_thinking": thinks, "thinking": thinks}}
    if switch == "thinking":
        return {"thinking": {"type": "enabled" if thinks else "disabled"}}
    if switch == "reasoning":
        return {"reasoning": {"enabled": thinks}}
    return {"reasoning_effort": "medium" if thinks else "none"}


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _literal_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
