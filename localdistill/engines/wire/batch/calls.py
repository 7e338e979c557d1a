"""Calls to batch endpoints: one at a time, in a thread of its own, so that waiting for them can be ended at any moment.
Tries nothing twice; what may pass by itself is the caller's to try again. The key goes to one host only."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from localdistill.core.errors import EngineError
from localdistill.core.events import Cancel
from localdistill.engines.wire.dispatcher import Rules
from localdistill.engines.wire.http import (
    Refused,
    Target,
    Transient,
    Watch,
    chunks,
    judge,
    open_session,
    parsed,
    read,
    timeout_of,
    was_sent,
)

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
_LISTEN_S = 0.1


class Stopped(Exception):
    """Somebody asked to stop while a call was under way; nobody knows how it would have ended."""


class NotFound(Exception):
    """The server knows nothing under this address (HTTP 404 or 405)."""


class Caller:
    """Speaks with one server. Errors are those of `attempt`, and Stopped and NotFound."""

    def __init__(self, target: Target, rules: Rules) -> None:
        self.base = target.url.removesuffix(target.dialect.path)
        self._target, self._rules = target, rules
        self._session: aiohttp.ClientSession | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batches", daemon=True)
        self._thread.start()

    def ask(self, method: str, path: str, cancel: Cancel, body: dict[str, Any] | None = None,
            finish_s: float = 0.0) -> object:
        """The JSON that `path` (behind the base address) answers. finish_s: how long a cancel waits for it."""
        return self._wait(self._ask(method, path, {"json": body} if body is not None else {}), cancel, finish_s)

    def send_file(self, path: str, file: Path, cancel: Cancel, finish_s: float) -> object:
        """Post a file of JSON as it is; the JSON that comes back."""
        async def send() -> object:
            with open(file, "rb") as handle:
                headers = {"Content-Type": "application/json"}
                return await self._ask("POST", path, {"data": handle, "headers": headers})

        return self._wait(send(), cancel, finish_s)

    def upload(self, path: str, file: Path, fields: dict[str, str], cancel: Cancel) -> object:
        """Post a form with `file` and `fields`; the JSON that comes back."""
        async def send() -> object:
            import aiohttp

            with open(file, "rb") as handle:
                form = aiohttp.FormData(fields)
                form.add_field("file", handle, filename="batch.jsonl", content_type="application/jsonl")
                return await self._ask("POST", path, {"data": form})

        return self._wait(send(), cancel)

    def download(self, address: str, into: IO[bytes], most_bytes: int, cancel: Cancel) -> None:
        """Append a newline and what `address` holds to `into`. EngineError when it lies on another host: the key must
        not go there. Refused when it is larger than `most_bytes`."""
        own, other = urlsplit(self.base), urlsplit(address)
        if (own.scheme, own.netloc) != (other.scheme, other.netloc):
            raise EngineError(f"the results are said to lie at {other.scheme}://{other.netloc}, which is not the host "
                              f"that was asked ({own.netloc})", "nothing was fetched and no key was sent there")

        async def fetch() -> None:
            into.seek(0, os.SEEK_END)
            into.write(b"\n")
            without_end = {"timeout": timeout_of(None, self._rules.idle_s)}
            async with self._open("GET", address, without_end) as (response, _, watch):
                async for chunk in chunks(response, watch):
                    if into.tell() > most_bytes:
                        raise Refused(f"the results are larger than {most_bytes} bytes")
                    into.write(chunk)

        self._wait(fetch(), cancel)

    def close(self) -> None:
        """Close connections and end the thread."""
        async def shut() -> None:
            if self._session is not None:
                await self._session.close()

        asyncio.run_coroutine_threadsafe(shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T], cancel: Cancel, finish_s: float = 0.0) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        stop_at: float | None = None
        try:
            while not concurrent.futures.wait([future], _LISTEN_S).done:
                if cancel.is_set():
                    stop_at = stop_at or time.monotonic() + finish_s
                    if time.monotonic() >= stop_at:
                        raise Stopped
        finally:
            if not future.done():
                future.cancel()
                concurrent.futures.wait([future], 1.0)
        return future.result()

    async def _ask(self, method: str, path: str, how: dict[str, Any]) -> object:
        async with self._open(method, self.base + path, how) as (response, target, watch):
            return parsed(await read(response, target, chunks(response, watch)))

    @asynccontextmanager
    async def _open(self, method: str, url: str,
                    how: dict[str, Any]) -> AsyncIterator[tuple[aiohttp.ClientResponse, Target, Watch]]:
        """A response with status 200 (or 201) and the watch over its body; anything else is raised as what it amounts
        to."""
        import aiohttp

        target = dataclasses.replace(self._target, url=url.partition("?")[0])
        headers = {**target.dialect.headers(target.key), **how.pop("headers", {})}
        try:
            asked = self._connected().request(method, url, headers=headers, allow_redirects=False, **how)
            # Sending a file may take long without a word, so that aiohttp watches until the head is there.
            async with asked as response, Watch(None, self._rules.idle_s) as watch:
                if response.status not in (200, 201):
                    raw = await read(response, target, chunks(response, watch), bounded=True)
                    if response.status in (404, 405):
                        raise NotFound(f"{target.url} answers HTTP {response.status}: {raw[:200]}")
                    judge(response, target, raw)
                yield response, target, watch
        except TimeoutError as error:
            raise Transient("no answer within the time allowed (timeout_s, idle_s)", "server", billed=was_sent(error),
                            counts=was_sent(error)) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            text = target.clean(f"{type(error).__name__}: {error}")
            raise Transient(text, "server", billed=was_sent(error), counts=was_sent(error)) from None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._rules.timeout_s, self._rules.idle_s)
        return self._session
