"""Sends chat completions over one connection pool in a thread of its own, with retries; the engine is in front.

The key never leaves this file except in the header of a request to the host it belongs to: redirects are not
followed, and what a server writes back is freed of the key before anybody else sees it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from localdistill.engines.openai_wire.body import Collected, Malformed, collect, error_of, reply_of
from localdistill.engines.openai_wire.waiting import backoff_s, is_retried, retry_after_s
from localdistill.errors import EngineError, EngineUnavailable
from localdistill.records import Reply

if TYPE_CHECKING:
    import aiohttp

MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_ERROR_CHARS = 500
_CONNECT_TIMEOUT_S = 15.0
_LONGEST_PAUSE_S = 900.0
_MOST_PAUSES = 20


@dataclass(frozen=True)
class Target:
    """Where to send, and how patiently."""

    url: str
    key: str
    key_name: str
    """Name of the environment variable of the key, for messages."""
    timeout_s: float
    retries: int
    first_backoff_s: float
    connections: int


Scope = Literal["request", "unclear", "server"]
"""Whom a failure concerns: this request, perhaps the server (it answers, but badly), or surely the server."""


class _Transient(Exception):
    """May pass by itself. `raw` is what came instead of a reply, `wait_s` what the server asked for."""

    def __init__(self, message: str, scope: Scope, raw: str = "", wait_s: float | None = None) -> None:
        super().__init__(message)
        self.scope, self.raw, self.wait_s = scope, raw, wait_s


class WireClient:
    """One server. `submit` may be called from any thread."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.successes = 0
        self.slowdowns = 0
        """How often the server said that it is asked too much."""
        self._given_up = 0
        self._resume_at = 0.0
        self._stopping = False
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai_compatible", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run `work` in the client's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop_retrying(self) -> None:
        """Let what is in flight end at its next failure instead of trying again."""
        self._stopping = True

    def close(self) -> None:
        """Cancel everything and end the thread."""
        async def shut() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._session is not None:
                await self._session.close()

        self.submit(shut()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def ask(self, request_id: str, body: dict[str, Any], max_tokens: int) -> Reply:
        """The reply to one request, after retries. Raises EngineError or EngineUnavailable."""
        attempt = pauses = 0
        successes = self.successes
        while True:
            await self._wait_for_lane()
            begin = time.monotonic()
            try:
                raw, data = await self._post(body)
                reply = reply_of(collect(data), request_id, raw, max_tokens, time.monotonic() - begin)
            except Malformed as problem:
                return Reply(request_id, "error", raw=raw, error=str(problem))
            except _Refused as refusal:
                return Reply(request_id, "error", raw=refusal.raw, error=str(refusal))
            except _Transient as failure:
                if self._pause_lane(failure, pauses):
                    pauses += 1
                    continue
                if attempt >= self.target.retries or self._stopping:
                    return self._give_up(request_id, failure, alive=self.successes > successes)
                await asyncio.sleep(backoff_s(attempt, self.target.first_backoff_s))
                attempt += 1
                continue
            self.successes += 1
            self._given_up = 0
            return reply

    def _give_up(self, request_id: str, failure: _Transient, alive: bool) -> Reply:
        """Whether one request failed or the server is gone: it is not when others got answers meanwhile, and when it
        is unclear several requests must fail in a row."""
        self._given_up += failure.scope == "unclear"
        tries = self.target.retries + 1
        many = self._given_up >= max(1, self.target.retries)
        if not alive and (failure.scope == "server" or (failure.scope == "unclear" and many)):
            raise EngineUnavailable(
                f"{self.target.url} does not answer after {tries} tries: {failure}",
                "start the server or check base_url; localdistill resume continues from here",
            )
        return Reply(request_id, "error", raw=failure.raw, error=f"{failure} (after {tries} tries)")

    async def _wait_for_lane(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _pause_lane(self, failure: _Transient, pauses: int) -> bool:
        """Hold every request back for as long as the server asks; True when that was done."""
        if failure.wait_s is None or pauses >= _MOST_PAUSES:
            return False
        if failure.wait_s > _LONGEST_PAUSE_S:
            hint = "localdistill resume continues after that time"
            raise EngineUnavailable(f"{self.target.url} asks to wait {failure.wait_s:.0f} s", hint)
        self._resume_at = max(self._resume_at, time.monotonic() + failure.wait_s)
        return not self._stopping

    async def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.target.timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
            headers = {"Authorization": f"Bearer {self.target.key}"} if self.target.key else {}
            connector = aiohttp.TCPConnector(limit=self.target.connections)
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector)
        return self._session

    async def _post(self, body: dict[str, Any]) -> tuple[str, Any]:
        """Raw text and parsed JSON of a good reply. Raises _Transient, _Refused, EngineError."""
        import aiohttp

        session = await self._open()
        try:
            async with session.post(self.target.url, json=body, allow_redirects=False) as response:
                raw = self._clean(await self._read(response))
                self._judge(response, raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            scope: Scope = "unclear" if isinstance(error, TimeoutError) else "server"
            raise _Transient(self._clean(f"{type(error).__name__}: {error}"), scope) from None
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            raise _Transient(f"no JSON but {raw[:80]!r}", "request", raw) from None
        if (found := error_of(data)) is not None:
            message, code = found
            if is_retried(code):
                raise _Transient(message[:_MAX_ERROR_CHARS], "unclear", raw)
            raise _Refused(message[:_MAX_ERROR_CHARS], raw)
        return raw, data

    async def _read(self, response: aiohttp.ClientResponse) -> str:
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                response.close()
                start = self._clean(data[:_MAX_ERROR_CHARS].decode("utf-8", "replace"))
                raise _Refused(f"the reply is larger than {MAX_BODY_BYTES} bytes", start)
        return data.decode("utf-8", "replace")

    def _judge(self, response: aiohttp.ClientResponse, raw: str) -> None:
        """Sort what is not a 200 into the three kinds of failure."""
        status, url = response.status, self.target.url
        if status == 200:
            return
        detail = _error_text(raw)
        if status in (401, 403):
            named = f"the key in {self.target.key_name}" if self.target.key_name else "a request without a key"
            raise EngineError(f"{url} refuses {named} (HTTP {status}): {detail}",
                              f"set {self.target.key_name or 'api_key_env'} to a key of this server")
        if status in (402, 404):
            raise EngineError(f"{url} answers HTTP {status}: {detail}", "check base_url, model and the account")
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere")
            hint = "put the final address into base_url"
            raise EngineError(f"{url} redirects to {where}, which is not followed", hint)
        if is_retried(status):
            if status == 429:
                self.slowdowns += 1
            scope: Scope = "server" if status == 429 else "unclear"
            raise _Transient(f"HTTP {status}: {detail}", scope, raw, retry_after_s(response.headers))
        raise _Refused(f"HTTP {status}: {detail}", raw)

    def _clean(self, text: str) -> str:
        return text.replace(self.target.key, "***") if self.target.key else text

    async def stream(self, request_id: str, body: dict[str, Any],
                     max_tokens: int) -> AsyncIterator[tuple[bool, str] | Reply]:
        """(is reasoning, text) pieces, then the reply. Nothing is tried again: somebody is watching."""
        import aiohttp

        session, collected, lines = await self._open(), Collected(), list[str]()
        begin = time.monotonic()
        try:
            async with session.post(self.target.url, json={**body, "stream": True}, allow_redirects=False) as response:
                if response.status != 200:
                    self._judge(response, self._clean(await self._read(response)))
                async for line in _events(response):
                    lines.append(self._clean(line))
                    if line == "[DONE]":
                        collected.finish = collected.finish or "stop"
                        break
                    for piece in _take(collected, line):
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not lines:
                raise _Refused(self._clean(f"{type(error).__name__}: {error}")) from None
        elapsed_s = time.monotonic() - begin
        yield reply_of(collected, request_id, "\n".join(lines), max_tokens, elapsed_s, is_whole=False)


class _Refused(Exception):
    """This request will never be answered. `raw` is what came instead."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


def _error_text(raw: str) -> str:
    try:
        found = error_of(json.loads(raw))
    except (ValueError, RecursionError):
        found = None
    return (found[0] if found else raw.strip() or "no body")[:_MAX_ERROR_CHARS]


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The data of server-sent events, line by line, bounded in all."""
    buffer, total = bytearray(), 0
    async for chunk in response.content.iter_any():
        total += len(chunk)
        if total > MAX_BODY_BYTES:
            return
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("data:"):
                yield text[5:].strip()


def _take(collected: Collected, line: str) -> list[tuple[bool, str]]:
    """Add one event. Raises _Refused when the server reports an error inside the stream."""
    try:
        event = json.loads(line)
    except ValueError:
        return []
    if (found := error_of(event)) is not None:
        raise _Refused(found[0][:_MAX_ERROR_CHARS], line)
    if not isinstance(event, dict):
        return []
    if isinstance(event.get("usage"), dict):
        collected.usage = event["usage"]
    pieces: list[tuple[bool, str]] = []
    choices = event.get("choices")
    for choice in choices[:1] if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            delta = choice.get("delta")
            pieces.extend(collected.take(delta) if isinstance(delta, dict) else ())
            collected.finish = choice.get("finish_reason") or collected.finish
    return pieces
