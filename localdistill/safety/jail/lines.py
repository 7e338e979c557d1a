"""JSON lines between the processes of the jail, bounded in length, read and written without anything that could be
changed by who is at the other end."""

from __future__ import annotations

import json
import os
from typing import Any

MOST_LINE_BYTES = 8 << 20
_CHUNK = 1 << 16


class LineTooLong(Exception):
    """The other end writes without an end of line."""


class Lines:
    """One message a line, each way; descriptors below 0 stand for none."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._buffer = bytearray()

    def read(self) -> Any:
        """The next message; None when the other end is gone. ValueError for what is no JSON, RecursionError for what is
        too deep, LineTooLong."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MOST_LINE_BYTES:
                raise LineTooLong
            chunk = os.read(self._source, _CHUNK)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return json.loads(line)

    def write(self, message: Any) -> None:
        """Send one message. BrokenPipeError when the other end is gone, ValueError for what is too long."""
        data = memoryview(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")
        if len(data) > MOST_LINE_BYTES:
            raise ValueError("the message is too long")
        while data:
            data = data[os.write(self._sink, data):]
