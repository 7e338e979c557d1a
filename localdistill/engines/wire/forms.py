"""Tells a stream of events from a whole body by how it begins: headers say one thing and servers send another."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

Form = Literal["stream", "body", "unclear"]

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a line of a stream of events begins."""
_BLANKS = b" \t\r\n\xef\xbb\xbf"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NEEDED = 256
"""Bytes that are looked at, blanks among them; what is still unclear behind them is told by its header."""
_KEEP_ALIVE = re.compile(r":.*|\W*(?:ping|pong|keep[ _-]?alive|heart[ _-]?beat|(?:\w+ )?processing)\W*", re.IGNORECASE)
_QUIET_EVENTS = frozenset({"ping", "pong", "keepalive", "keep-alive", "keep_alive", "heartbeat", "comment"})


def form_of(began: bytes | bytearray) -> Form | None:
    """What begins with these bytes; None when more of them have to be seen."""
    seen = began.lstrip(_BLANKS)
    if seen.startswith(_FIELDS):
        return "stream"
    if seen.startswith((b"{", b"[")):
        return "body"
    is_open = not seen or any(field.startswith(seen) for field in _FIELDS)
    return None if is_open and len(began) < _NEEDED else "unclear"


def is_keep_alive(text: str, event: str) -> bool:
    """True for data that only says that the server is still there: a comment that somebody took for data, a word that
    means that, or whatever an event of such a name brings, unless it is an object."""
    return (event in _QUIET_EVENTS and not text.startswith("{")) or _KEEP_ALIVE.fullmatch(text) is not None


def lines_of_events(raw: str) -> list[str] | None:
    """The lines of a body of several JSON objects, one a line: the pieces of a stream that nobody named. None for a
    body that is one object, or anything else."""
    if not raw.lstrip().startswith("{") or "\n" not in raw.strip():
        return None
    lines = [line for line in raw.splitlines() if line.strip()]
    try:
        pieces = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return None
    return lines if len(pieces) > 1 and all(isinstance(piece, dict) for piece in pieces) else None


class BodyBegun:
    """A body whose beginning was looked at. `pieces` gives all of it, and raises what reading raised."""

    def __init__(self, began: bytes, rest: AsyncGenerator[bytes, None], problem: Exception | None) -> None:
        self._began, self._rest, self._problem = began.removeprefix(_BYTE_ORDER_MARK), rest, problem

    @classmethod
    async def read(cls, pieces: AsyncGenerator[bytes, None]) -> BodyBegun:
        """Read until it is clear what comes."""
        began = bytearray()
        try:
            async for piece in pieces:
                began += piece
                if form_of(began) is not None:
                    break
        except Exception as problem:
            return cls(bytes(began), pieces, problem)
        return cls(bytes(began), pieces, None)

    def is_stream(self, content_type: str) -> bool:
        """Whether these are events. content_type: who decides where the beginning does not."""
        form = form_of(self._began)
        return form == "stream" or (form in (None, "unclear") and content_type == "text/event-stream")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The whole body, piece by piece. To be closed by whoever does not read to its end."""
        async with aclosing(self._rest) as rest:
            if self._began:
                yield self._began
            if self._problem is not None:
                raise self._problem
            async for piece in rest:
                yield piece
