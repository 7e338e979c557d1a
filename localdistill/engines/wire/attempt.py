"""One attempt of one request: send it, read what comes, whole or as a stream, and say what it was. Tries nothing
twice."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.engines.wire.collected import UNREADABLE, Collected
from localdistill.engines.wire.dialect import Fold, RateLimitHeaders
from localdistill.engines.wire.forms import BodyBegun, is_keep_alive, lines_of_events
from localdistill.engines.wire.http import (
    KEPT_BYTES,
    MAX_BODY_BYTES,
    MAX_LINE_BYTES,
    Refused,
    Target,
    Transient,
    Watch,
    chunks,
    judge,
    parsed,
    raise_error,
    read,
    refuse_echo,
    unwatched,
    was_sent,
)

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True)
class WireResponse:
    """What came: the parts, the raw body (of streams the joined one), and what the headers said."""

    collected: Collected
    raw: str
    is_whole: bool
    limits: dict[str, RateLimitHeaders]


OnPiece = Callable[[bool, str], None]


async def attempt(session: aiohttp.ClientSession, target: Target, body: dict[str, Any],
                  on_piece: OnPiece | None = None) -> WireResponse:
    """Ask once. Raises Transient, Slowed, Refused, EngineError (key or address refused), EngineUnavailable (402)."""
    import aiohttp

    try:
        async with Watch(session.timeout.total, session.timeout.sock_read or math.inf) as watch:
            async with watch.head():
                response = await session.post(target.url, json=body, headers=target.dialect.headers(target.key),
                                              allow_redirects=False, timeout=unwatched())
            async with response:
                answer = await _answer(response, target, watch, on_piece)
    except TimeoutError as error:
        raise Transient("no answer within the time allowed (timeout_s, idle_s)", "server",
                        billed=was_sent(error)) from None
    except aiohttp.ClientPayloadError as error:
        raise Transient(f"the connection broke: {target.clean(str(error))}", "server") from None
    except (aiohttp.ClientError, OSError) as error:
        text = target.clean(f"{type(error).__name__}: {error}")
        raise Transient(text, "server", billed=was_sent(error), counts=False) from None
    if answer.collected.id:  # two replies without a name may well be the same words
        refuse_echo(response, answer.raw)
    return answer


async def _answer(response: aiohttp.ClientResponse, target: Target, watch: Watch,
                  on_piece: OnPiece | None) -> WireResponse:
    limits = target.dialect.limits(response.headers)
    if response.status != 200:
        judge(response, target, await read(response, target, chunks(response, watch), bounded=True))
    body = await BodyBegun.read(chunks(response, watch))
    if body.is_stream(response.content_type):
        return await _streamed(response, target, limits, body, on_piece)
    raw = await read(response, target, body.pieces())
    if (lines := lines_of_events(raw)) is not None:
        return _of_lines(lines, target, limits, on_piece)
    data = parsed(raw)
    raise_error(target, data, raw)
    return WireResponse(target.dialect.collect(data), raw, True, limits)


def _of_lines(lines: list[str], target: Target, limits: dict[str, RateLimitHeaders],
              on_piece: OnPiece | None) -> WireResponse:
    """A stream whose events are lines of JSON without a name in front."""
    events = _Events(target, on_piece)
    with _saying_what_was_written(events):
        for line in lines:
            events.feed(f"data: {line}\n\n".encode("utf-8", "surrogateescape"))
        return events.answer(limits)


async def _streamed(response: aiohttp.ClientResponse, target: Target, limits: dict[str, RateLimitHeaders],
                    body: BodyBegun, on_piece: OnPiece | None) -> WireResponse:
    """The joined body of a stream. One that breaks off after its first event is an answer too: a truncated one."""
    import aiohttp

    events = _Events(target, on_piece)
    with _saying_what_was_written(events):
        try:
            async with aclosing(body.pieces()) as pieces:
                async for chunk in pieces:
                    events.feed(chunk)
                    if events.over:
                        break
                    if events.is_too_large():
                        response.close()
                        raise Refused(f"the stream is larger than {MAX_BODY_BYTES} bytes, or one line of it is",
                                      target.text(events.evidence))
        except (TimeoutError, aiohttp.ClientError, OSError):
            if not events.evidence.strip():
                raise
        events.end()
        return events.answer(limits)


@contextmanager
def _saying_what_was_written(events: _Events) -> Iterator[None]:
    """An error that ends a stream carries what came of the reply before."""
    try:
        yield
    except (Transient, Refused) as problem:
        problem.wrote = events.wrote()
        raise


class _Events:
    """The events of one stream, joined as they come."""

    def __init__(self, target: Target, on_piece: OnPiece | None) -> None:
        self.evidence = bytearray()
        """What came, as far as it is kept."""
        self.over = False
        """Nothing more is wanted."""
        self._target, self._on_piece = target, on_piece
        self._fold: Fold = target.dialect.fold()
        self._fold.shows = on_piece is not None
        self._rest, self._size, self._damaged, self._said_done = bytearray(), 0, "", False
        self._half: list[str] = []
        """Lines of an event that is not whole yet."""
        self._name = ""
        self._more: _More | None = None

    def feed(self, chunk: bytes) -> None:
        """Take in bytes, cut anywhere. Raises what an error event amounts to."""
        self._size += len(chunk)
        if len(self.evidence) < KEPT_BYTES:
            self.evidence += chunk[: KEPT_BYTES - len(self.evidence)]
        self._rest += chunk
        if b"\n" not in chunk:
            return
        *lines, last = bytes(self._rest).split(b"\n")
        self._rest = bytearray(last)
        for line in lines:
            if not line:
                if self._half or self._name:
                    self._end_event()
                continue
            if self._more is not None and self._more.took(line):
                continue
            if line.startswith(b"data:"):
                self._take(line)
                if self.over:
                    return
            elif line.startswith(b"event:"):
                self._name = line[6:].strip().decode("utf-8", "replace").lower()
            elif not line.strip():
                self._end_event()

    def is_too_large(self) -> bool:
        """More came than a reply can be."""
        return len(self._rest) > MAX_LINE_BYTES or self._size > MAX_BODY_BYTES

    def end(self) -> None:
        """Take in a last line whose end did not come: half of it is a cut, not damage."""
        if not self.over and self._rest.startswith(b"data:"):
            before = len(self._half)
            self._take(bytes(self._rest))
            del self._half[before:]
        self._end_event()

    def answer(self, limits: dict[str, RateLimitHeaders]) -> WireResponse:
        """What the stream amounts to. Raises Transient when it is none or damaged."""
        target, is_whole = self._target, self._fold.ended or self._said_done
        if not self.evidence.strip():
            raise Transient("the stream was empty", "request")
        if b"data:" not in self.evidence or (self._damaged and is_whole):
            start = target.text(self.evidence)
            what = (f"an event of the stream is damaged: {self._damaged[:80]!r}" if self._damaged
                    else f"no events but {start[:80]!r}")
            raise Transient(what, "request", start)
        body = self._fold.body()
        joined = json.dumps({**body, "stream": "whole" if is_whole else "cut"}, ensure_ascii=False)
        raw = target.clean(joined)
        if raw != joined:  # a key that came in two pieces
            body = json.loads(raw)
        return WireResponse(target.dialect.collect(body), raw, is_whole, limits)

    def wrote(self) -> Collected | None:
        """What of a reply came so far; None when that cannot be read."""
        with suppress(*UNREADABLE):
            return self._target.dialect.collect(self._fold.body())
        return None

    def _take(self, line: bytes) -> None:
        """Add one line of data. What is no JSON object by itself may go on in the next line of the same event."""
        text = self._target.text(line[5:].strip())
        if text == "[DONE]":
            self._said_done = self.over = True
            return
        if not text or is_keep_alive(text, self._name):
            return
        event = _object_in(text)
        if event is None and self._half and len(self._half) < _MOST_LINES and text.endswith("}"):
            event = _object_in("\n".join((*self._half, text)))
            if event is not None:
                self._half.clear()
        if event is None:
            self._half.append(text)
            self._more = None
            return
        self._end_event()
        raise_error(self._target, event, text[:KEPT_BYTES], began=True)
        for is_reasoning, piece in self._fold.take(event):
            if self._on_piece is not None:
                self._on_piece(is_reasoning, piece)
        self.over = self._fold.over
        grown = None if self._on_piece is not None else self._fold.grown(event)
        self._more = _More.after(line, *grown) if grown is not None else None

    def _end_event(self) -> None:
        """What was not whole by now will not be: it is half a line of a broken stream, or damage."""
        if self._half:
            self._damaged = self._damaged or self._half[0]
            self._half.clear()
        self._name = ""


_MOST_LINES = 1000
"""Of one event: each may be the last one of it, and is tried."""


def _object_in(text: str) -> dict[str, Any] | None:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else {} if event is None else None


_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')


@dataclass(frozen=True)
class _More:
    """What the next event will look like if it says what the last one said with another text in its place. Most do,
    and to read such a one as JSON takes several times as long as to see that."""

    before: bytes
    behind: bytes
    parts: list[str]

    @classmethod
    def after(cls, line: bytes, text: str, parts: list[str]) -> _More | None:
        """From an event that made `parts` longer by `text`; None when its place in the line is not plain to see."""
        quoted = b'"%b"' % text.encode("utf-8", "surrogatepass")
        if line.count(quoted) != 1:
            return None
        before, _, behind = line.partition(quoted)
        return cls(before + b'"', b'"' + behind, parts)

    def took(self, line: bytes) -> bool:
        """Add the text of `line` if it is such an event."""
        begin, end = len(self.before), len(line) - len(self.behind)
        if begin > end or not (line.startswith(self.before) and line.endswith(self.behind)):
            return False
        if _PLAIN.fullmatch(line, begin, end) is None:
            return False
        self.parts.append(line[begin:end].decode("utf-8", "surrogateescape"))
        return True
