"""One HTTP exchange with a server, below what it says: the session, bodies within bounds, and what statuses and error
objects amount to.

Keys are sent in headers only, to the host they belong to: redirects are not followed, and what a server writes back
is freed of the key before anybody else sees it.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from localdistill.core.errors import EngineError, EngineUnavailable
from localdistill.engines.wire.collected import Collected
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.waiting import is_retried, retry_after_s
from localdistill.safety.secrets import know

if TYPE_CHECKING:
    import aiohttp

_CONNECT_TIMEOUT_S = 15.0
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 1024 * 1024
"""So much of an unreadable body is kept as evidence."""
_MAX_ERROR_CHARS = 500
_MOMENT_S = 0.05
"""Between the two looks that make a silence: what came while this process was busy with other things is read first."""
_LATE = -1  # no hash is that
_brought: WeakKeyDictionary[asyncio.BaseTransport, int] = WeakKeyDictionary()
"""The last reply of each open connection, as a hash."""

Scope = Literal["request", "server"]
"""Whom a failure concerns: what was asked or how it was answered, or the server as a whole."""


# Whatever goes wrong may have cost something: the model may have written before it did. `billed` is False only for what
# `refuses_at_once` and the few errors before anything is sent prove.

class Transient(Exception):
    """May pass by itself. `raw` is what came instead of a reply, `wrote` what of one came before it broke off."""

    wrote: Collected | None = None

    def __init__(self, message: str, scope: Scope, raw: str = "", *, billed: bool = True, counts: bool = True,
                 slows: bool = False) -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.scope, self.raw, self.billed, self.counts, self.slows = scope, raw, billed, counts, slows
        """`counts`: as one of the request's tries. `slows`: the server also said that it is asked too much."""


class Slowed(Exception):
    """The server says that it is asked too much; `wait_s` is how long it wants to be left alone, if it said."""

    def __init__(self, message: str, wait_s: float | None, raw: str, *, billed: bool = True) -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.wait_s, self.raw, self.billed = wait_s, raw, billed


class Refused(Exception):
    """This request will never be answered. `raw` is what came instead, `wrote` what of a reply came before."""

    wrote: Collected | None = None

    def __init__(self, message: str, raw: str = "", *, billed: bool = True) -> None:
        super().__init__(message[:_MAX_ERROR_CHARS])
        self.raw, self.billed = raw, billed


class Denied(EngineError):
    """The server refuses whatever it is asked: the key, the address or the model."""

    def __init__(self, message: str, hint: str = "", *, billed: bool = True) -> None:
        super().__init__(message, hint)
        self.billed = billed


class Unpaid(Denied, EngineUnavailable):
    """The server wants money first."""


@dataclass(frozen=True)
class Target:
    """One server as it is asked: the whole address, the key and its name (for messages)."""

    url: str
    key: str = field(repr=False)
    key_name: str
    dialect: Dialect

    def spoken_to(self, dialect: Dialect) -> Target:
        """The same server in another of its forms."""
        return replace(self, url=self.url.removesuffix(self.dialect.path) + dialect.path, dialect=dialect)

    def clean(self, text: str) -> str:
        """`text` without the key, however it is written there."""
        return know(self.key).clean(text) if self.key else text

    def text(self, data: bytes | bytearray) -> str:
        """`data` as text without the key; bytes that are no UTF-8 survive as lone surrogates."""
        return self.clean(data.decode("utf-8", "surrogateescape"))


def timeout_of(total_s: float | None, idle_s: float | None) -> aiohttp.ClientTimeout:
    """How long an exchange may take, in all and without a single byte; None: without end."""
    import aiohttp

    return aiohttp.ClientTimeout(total=total_s, sock_connect=_CONNECT_TIMEOUT_S, sock_read=idle_s)


@cache
def unwatched() -> aiohttp.ClientTimeout:
    """For an exchange with a `Watch` of its own: only the connection has to be made in time."""
    return timeout_of(None, None)


def open_session(total_s: float, idle_s: float) -> aiohttp.ClientSession:
    """A session without limits of its own: how many requests are in flight is for the rate limiters to say.
    Compression would cost more time than it saves on a stream of small events."""
    import aiohttp

    return aiohttp.ClientSession(
        timeout=timeout_of(total_s, idle_s), connector=aiohttp.TCPConnector(limit=0), auto_decompress=False,
        headers={"Accept-Encoding": "identity"}, response_class=_response_class())


@cache
def _response_class() -> type[aiohttp.ClientResponse]:
    import aiohttp

    class Response(aiohttp.ClientResponse):
        """Remembers what it came over; aiohttp forgets that once the body is there."""

        transport: asyncio.BaseTransport | None = None

        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            """See `ClientResponse.start`."""
            self.transport = connection.transport
            return await super().start(connection)

    return Response


def was_sent(error: Exception) -> bool:
    """False for the errors of a connection that was never made: no such name, refused, too late, TLS that failed."""
    import aiohttp

    return not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def refuse_echo(response: aiohttp.ClientResponse, raw: str) -> None:
    """Raise Transient when a reply may belong to another request. A server that sends one twice leaves every later
    reply on that connection a request late; the first of those is, name and all, what the connection brought before."""
    transport = getattr(response, "transport", None)
    if transport is None:
        return
    mark = hash(raw)
    if _brought.setdefault(transport, 0) in (mark, _LATE):
        _brought[transport] = _LATE
        transport.close()
        raise Transient("the reply to an earlier request came again", "request", raw[:KEPT_BYTES], counts=False)
    _brought[transport] = mark


def parsed(raw: str) -> object:
    """The JSON of a body. Raises Transient."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Transient(f"no JSON but {raw[:80]!r}", "request", raw[:KEPT_BYTES]) from None


def raise_error(target: Target, data: object, raw: str, began: bool = False) -> None:
    """Raise what an error object inside a 200 amounts to: whoever says 200 has taken the request up. `began`: it came
    in a stream."""
    found = target.dialect.error_of(data)
    if found is None:
        return
    message, code = found
    if code in (429, 529) and not began:
        raise Slowed(message, None, raw)
    if is_retried(code) or began or not code:
        raise Transient(message, "request", raw, slows=code in (429, 529))
    raise Refused(message, raw)


async def read(response: aiohttp.ClientResponse, target: Target, pieces: AsyncIterator[bytes],
               bounded: bool = False) -> str:
    """The body as text. `bounded` keeps only its start. Raises Refused when it is too large, else as `chunks`."""
    data = bytearray()
    async for chunk in pieces:
        data += chunk
        if bounded and len(data) > KEPT_BYTES:
            response.close()
            break
        if len(data) > MAX_BODY_BYTES:
            response.close()
            start = target.text(data[:KEPT_BYTES])
            raise Refused(f"the reply is larger than {MAX_BODY_BYTES} bytes", start)
    return target.text(data)


async def chunks(response: aiohttp.ClientResponse, watch: Watch) -> AsyncGenerator[bytes, None]:
    """The body piece by piece. Compression was not asked for; where it comes all the same, it is undone in bounds.
    Raises TimeoutError when the watch says so, and Transient, Refused and what aiohttp raises."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async with aclosing(_arriving(response.content, watch)) as arriving:
            async for chunk in arriving:
                yield chunk
        return
    if encoding not in ("gzip", "deflate"):
        raise Refused(f"the reply is encoded as {encoding[:40]}, which was not asked for")
    inflate = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        async for chunk in _arriving(response.content, watch):
            while chunk:
                yield inflate.decompress(chunk, KEPT_BYTES)
                chunk = inflate.unconsumed_tail
    except zlib.error as error:
        raise Transient(f"the {encoding} body is damaged: {error}", "request") from None


async def _arriving(content: aiohttp.StreamReader, watch: Watch) -> AsyncGenerator[bytes, None]:
    """The body as it comes."""
    watch.over(content)
    while chunk := await content.readany():
        watch.heard()
        yield chunk


class Watch:
    """Over one exchange: how long it may take in all (None: without end) and without a single byte. For `async with`.

    One timer, which looks when it rings whether anything was heard meanwhile: a timer for every piece that comes, as
    aiohttp has them, costs more than the piece. And aiohttp's watch over silence ends with the connection, while a body
    whose head came with the one before it (a reply sent twice) can lose its connection without hearing of it."""

    def __init__(self, total_s: float | None, idle_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s, self._heard_at = idle_s, self._loop.time()
        self._ends_at = math.inf if total_s is None else self._heard_at + total_s
        self._content: aiohttp.StreamReader | None = None
        self._head: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_late = False

    async def __aenter__(self) -> Watch:
        self._look()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def head(self) -> asyncio.Timeout:
        """For `async with` around what waits for the head of the response; raises TimeoutError when that is late."""
        self._head = asyncio.timeout(None)
        return self._head

    def over(self, content: aiohttp.StreamReader) -> None:
        """The head is there: from now on whoever reads `content` gets the TimeoutError."""
        self._content = content
        self.heard()

    def heard(self) -> None:
        """Something came."""
        self._heard_at = self._loop.time()

    def _look(self) -> None:
        due, now = min(self._heard_at + self._idle_s, self._ends_at), self._loop.time()
        was_late, self._is_late = self._is_late, now >= due
        if not (self._is_late and was_late):
            self._timer = self._loop.call_at(max(due, now + _MOMENT_S), self._look)
        elif self._content is not None:
            self._content.set_exception(TimeoutError())
        elif self._head is not None:
            self._head.reschedule(0.0)


_AT_ONCE = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422})
"""Statuses with which an API turns a request down before it takes it up, when they come in words of its own. Not among
them: 408, 409 and 5xx, which may come after the model wrote, as do a gateway's 502 and 504."""
_TOO_MUCH = (429, 503, 529)
"""Statuses of a server that is asked too much. A gateway writes them too, when what stands behind it gave out in the
middle of its work: a limit that was reached has to be named."""
_LIMIT = re.compile(r"limit|quota|too.?many|overload|capacity|throttl|exhausted|slow.?down|\bbusy\b"
                    r"|per (second|minute|hour|day)|\b[rt]p[mds]\b", re.IGNORECASE)
_WRITTEN_KEYS = ("choices", "content", "completion", "output", "usage", "failed_generation")
_WROTE = re.compile(
    r"\b(output|generated|completion|response)\b.{0,80}\b(inappropriate|filter|flag|block|moderat|violat)"
    r"|\bfailed to (generate|parse)\b", re.IGNORECASE | re.DOTALL)
"""Words of an error about what the model had written by then."""


def refuses_at_once(status: int, raw: str, wait_s: float | None = None) -> bool:
    """Whether a response with another status than 200 proves that nothing was written for it.

    It does when its body holds nothing of a reply and it is: a redirect; one of `_AT_ONCE` as a JSON object, which
    gateways do not write; one of `_TOO_MUCH` that names the limit, or a 429 that says when to come again.
    """
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        data = None
    if raw.lstrip().startswith(("data:", "event:")) or _WROTE.search(raw[:KEPT_BYTES]):
        return False
    parts = [data, data.get("error")] if isinstance(data, dict) else []
    if any(isinstance(part, dict) and any(part.get(key) for key in _WRITTEN_KEYS) for part in parts):
        return False
    if status in _TOO_MUCH:
        return bool(_LIMIT.search(raw[:KEPT_BYTES])) or (status == 429 and wait_s is not None)
    return 300 <= status < 400 or (status in _AT_ONCE and isinstance(data, dict))


def judge(response: aiohttp.ClientResponse, target: Target, raw: str) -> None:
    """Raise what a status other than 200 amounts to."""
    status, url, detail = response.status, target.url, _error_text(target, raw)
    wait_s = retry_after_s(response.headers)
    billed = not refuses_at_once(status, raw, wait_s)
    if status in (401, 403):
        named = f"the key in {target.key_name}" if target.key_name else "a request without a key"
        raise Denied(f"{url} refuses {named} (HTTP {status}): {detail}",
                     f"set {target.key_name or 'api_key_env'} to a key of this server", billed=billed)
    if status == 402:
        raise Unpaid(f"{url} wants to be paid first (HTTP 402): {detail}",
                     "top up the account or lower max_tokens; localdistill resume continues from here", billed=billed)
    if status in (404, 405):
        raise Denied(f"{url} answers HTTP {status}: {detail}", "check base_url and model", billed=billed)
    if 300 <= status < 400:
        where = target.clean(response.headers.get("Location", "elsewhere"))
        raise Denied(f"{url} redirects to {where}, which is not followed", "put the final address into base_url",
                     billed=billed)
    if status in (429, 529) or (status == 503 and wait_s is not None):
        raise Slowed(f"HTTP {status}: {detail}", wait_s, raw, billed=billed)
    if is_retried(status):
        raise Transient(f"HTTP {status}: {detail}", "server", raw, billed=billed)
    raise Refused(f"HTTP {status}: {detail}", raw, billed=billed)


def _error_text(target: Target, raw: str) -> str:
    try:
        found = target.dialect.error_of(json.loads(raw))
    except (ValueError, RecursionError):
        found = None
    return (found[0] if found else raw.strip() or "no body")[:_MAX_ERROR_CHARS]
