"""One attempt of one request: send it, read what comes within bounds, and say what it was. Tries nothing twice.

Keys are sent in headers only, to the host they belong to: redirects are not followed, and what a server writes back
is freed of the key before anybody else sees it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from localdistill.engines.wire.collected import Collected
from localdistill.engines.wire.dialect import Dialect, Fold, Limits
from localdistill.engines.wire.waiting import is_retried, retry_after_s
from localdistill.errors import EngineError, EngineUnavailable

if TYPE_CHECKING:
    import aiohttp

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 1024 * 1024
"""So much of an unreadable body is kept as evidence."""
_MAX_ERROR_CHARS = 500
_SHORTEST_KEY = 8
"""Shorter ones are no secrets, and cutting them out of texts would only damage those."""

Scope = Literal["request", "server"]
"""Whom a failure concerns: what was asked or how it was answered, or the server as a whole."""


class Transient(Exception):
    """May pass by itself. `raw` is what came instead of a reply; `billed`: it may have cost something."""

    def __init__(self, message: str, scope: Scope, raw: str = "", *, billed: bool = False, counts: bool = True,
                 slows: bool = False) -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.scope, self.raw, self.billed, self.counts, self.slows = scope, raw, billed, counts, slows
        """`counts`: as one of the request's tries. `slows`: the server also said that it is asked too much."""


class Slowed(Exception):
    """The server says that it is asked too much; `wait_s` is how long it wants to be left alone, if it said."""

    def __init__(self, message: str, wait_s: float | None, raw: str) -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.wait_s, self.raw = wait_s, raw


class Refused(Exception):
    """This request will never be answered. `raw` is what came instead."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.raw = raw


@dataclass(frozen=True)
class Target:
    """One server as it is asked: the whole address, the key and its name (for messages)."""

    url: str
    key: str = field(repr=False)
    key_name: str
    dialect: Dialect

    def clean(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self.key, "***") if len(self.key) >= _SHORTEST_KEY else text


@dataclass(frozen=True)
class Answer:
    """What came: the parts, the raw body (of streams the joined one), and what the headers said."""

    collected: Collected
    raw: str
    is_whole: bool
    limits: dict[str, Limits]


OnPiece = Callable[[bool, str], None]


async def attempt(session: aiohttp.ClientSession, target: Target, body: dict[str, Any],
                  on_piece: OnPiece | None = None) -> Answer:
    """Ask once. Raises Transient, Slowed, Refused, EngineError (key or address refused), EngineUnavailable (402)."""
    import aiohttp

    try:
        async with session.post(target.url, json=body, headers=target.dialect.headers(target.key),
                                allow_redirects=False) as response:
            limits = target.dialect.limits(response.headers)
            if response.status != 200:
                _judge(response, target, _text(target, await _read(response, bounded=True)))
            if response.content_type == "text/event-stream":
                return await _streamed(response, target, limits, on_piece)
            raw = _text(target, await _read(response))
    except TimeoutError:
        raise Transient("no answer within the time allowed (timeout_s, idle_s)", "server", billed=True) from None
    except aiohttp.ClientPayloadError as error:
        raise Transient(f"the connection broke: {target.clean(str(error))}", "server", billed=True) from None
    except (aiohttp.ClientError, OSError) as error:
        text = target.clean(f"{type(error).__name__}: {error}")
        billed = not isinstance(error, aiohttp.ClientConnectorError)
        raise Transient(text, "server", billed=billed, counts=False) from None
    data = _parsed(raw)
    _raise_error(target, data, raw)
    return Answer(target.dialect.collect(data), raw, True, limits)


def _parsed(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Transient(f"no JSON but {raw[:80]!r}", "request", raw[:KEPT_BYTES], billed=True) from None


def _text(target: Target, data: bytes | bytearray) -> str:
    return target.clean(data.decode("utf-8", "surrogateescape"))


def _raise_error(target: Target, data: Any, raw: str, billed: bool = False) -> None:
    """Raise what an error object inside a 200 amounts to."""
    found = target.dialect.error_of(data)
    if found is None:
        return
    message, code = found
    if code in (429, 529) and not billed:
        raise Slowed(message, None, raw)
    if is_retried(code) or billed or not code:
        raise Transient(message, "request", raw, billed=billed, slows=code in (429, 529))
    raise Refused(message, raw)


async def _read(response: aiohttp.ClientResponse, bounded: bool = False) -> bytearray:
    """The body, decoded. `bounded` keeps only its start."""
    data = bytearray()
    async for chunk in _chunks(response):
        data += chunk
        if bounded and len(data) > KEPT_BYTES:
            response.close()
            break
        if len(data) > MAX_BODY_BYTES:
            response.close()
            start = data[:KEPT_BYTES].decode("utf-8", "surrogateescape")
            raise Refused(f"the reply is larger than {MAX_BODY_BYTES} bytes", start)
    return data


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body piece by piece. Compression was not asked for; where it comes all the same, it is undone in bounds."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async for chunk in response.content.iter_any():
            yield chunk
        return
    if encoding not in ("gzip", "deflate"):
        raise Refused(f"the reply is encoded as {encoding[:40]}, which was not asked for")
    inflate = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        async for chunk in response.content.iter_any():
            while chunk:
                yield inflate.decompress(chunk, KEPT_BYTES)
                chunk = inflate.unconsumed_tail
    except zlib.error as error:
        raise Transient(f"the {encoding} body is damaged: {error}", "request", billed=True) from None


def _judge(response: aiohttp.ClientResponse, target: Target, raw: str) -> None:
    """Raise what a status other than 200 amounts to."""
    status, url, detail = response.status, target.url, _error_text(target, raw)
    if status in (401, 403):
        named = f"the key in {target.key_name}" if target.key_name else "a request without a key"
        raise EngineError(f"{url} refuses {named} (HTTP {status}): {detail}",
                          f"set {target.key_name or 'api_key_env'} to a key of this server")
    if status == 402:
        raise EngineUnavailable(f"{url} wants to be paid first (HTTP 402): {detail}",
                                "top up the account or lower max_tokens; localdistill resume continues from here")
    if status in (404, 405):
        raise EngineError(f"{url} answers HTTP {status}: {detail}", "check base_url and model")
    if 300 <= status < 400:
        where = target.clean(response.headers.get("Location", "elsewhere"))
        raise EngineError(f"{url} redirects to {where}, which is not followed", "put the final address into base_url")
    wait_s = retry_after_s(response.headers)
    if status in (429, 529) or (status == 503 and wait_s is not None):
        raise Slowed(f"HTTP {status}: {detail}", wait_s, raw)
    if is_retried(status):
        raise Transient(f"HTTP {status}: {detail}", "server", raw)
    raise Refused(f"HTTP {status}: {detail}", raw)


def _error_text(target: Target, raw: str) -> str:
    try:
        found = target.dialect.error_of(json.loads(raw))
    except (ValueError, RecursionError):
        found = None
    return (found[0] if found else raw.strip() or "no body")[:_MAX_ERROR_CHARS]


async def _streamed(response: aiohttp.ClientResponse, target: Target, limits: dict[str, Limits],
                    on_piece: OnPiece | None) -> Answer:
    """The joined body of a stream. One that breaks off after its first event is an answer too: a truncated one."""
    import aiohttp

    fold, done, damaged, evidence = target.dialect.fold(), False, "", bytearray()
    fold.shows = on_piece is not None
    try:
        async for line, is_complete in _lines(response):
            if not line:
                continue
            if len(evidence) < KEPT_BYTES and not fold.ended:
                evidence += line[: KEPT_BYTES - len(evidence)] + b"\n"
            text = _text(target, line[5:].strip()) if line.startswith(b"data:") else ""
            if text == "[DONE]":
                done = True
            elif text:
                bad = _take(target, fold, text, on_piece)
                damaged = damaged or (bad if is_complete else "")  # half a line at the end is a cut, not damage
            if done or fold.over:
                break
    except (TimeoutError, aiohttp.ClientError, OSError):
        if not evidence:
            raise
    is_whole = fold.ended or done
    if not evidence.strip():
        raise Transient("the stream was empty", "request", billed=True)
    if b"data:" not in evidence or (damaged and is_whole):
        start = _text(target, evidence)
        what = f"an event of the stream is damaged: {damaged[:80]!r}" if damaged else f"no events but {start[:80]!r}"
        raise Transient(what, "request", start, billed=True)
    body = fold.body()
    joined = json.dumps({**body, "stream": "whole" if is_whole else "cut"}, ensure_ascii=False)
    raw = target.clean(joined)
    if raw != joined:  # a key that came in two pieces
        body = json.loads(raw)
    return Answer(target.dialect.collect(body), raw, is_whole, limits)


def _take(target: Target, fold: Fold, text: str, on_piece: OnPiece | None) -> str:
    """Add one event; returns its text when it is no JSON object: half a line of a broken stream, or damage."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return text or "(empty)"
    _raise_error(target, event, text[:KEPT_BYTES], billed=True)
    if not isinstance(event, dict):
        return text
    for is_reasoning, piece in fold.take(event):
        if on_piece is not None:
            on_piece(is_reasoning, piece)
    return ""


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[bytes, bool]]:
    """Lines of a stream, bounded in length and in all, each with whether its end came too."""
    import aiohttp

    rest, total, broke = bytearray(), 0, None
    try:
        async for chunk in _chunks(response):
            total += len(chunk)
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    yield line, True
            if len(rest) > MAX_LINE_BYTES or total > MAX_BODY_BYTES:
                response.close()
                start = bytes(rest[:KEPT_BYTES]).decode("utf-8", "surrogateescape")
                raise Refused(f"the stream is larger than {MAX_BODY_BYTES} bytes, or one line of it is", start)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        broke = error
    if rest:
        yield bytes(rest), False
    if broke is not None:
        raise broke
