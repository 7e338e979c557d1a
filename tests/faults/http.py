"""HTTP/1.1 by hand: a library would not cut a body at a chosen byte, reset a connection, or lie about a length."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from tests.faults.script import Step

MEGABYTE = 1024 * 1024
_REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required",
            404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
            503: "Service Unavailable", 529: "Overloaded"}


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    """The next request of a connection; None when the client closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Asked(method, path, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


class Connection:
    """Writes one answer with all that is to go wrong with it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        writer.transport.set_write_buffer_limits(0)

    async def send(self, body: bytes, step: Step, headers: Mapping[str, str], is_stream: bool) -> bool:
        """Write the answer. True when the connection may be used again."""
        if step.wire is not None:
            await self._write(step.wire.encode("latin-1"))
            self.close()
            return False
        framing = step.framing
        if framing == "auto":
            framing = "chunked" if is_stream or step.gzip_mb or step.line_mb else "length"
        sizes = {"chunked": {"Transfer-Encoding": "chunked"}, "length": {"Content-Length": str(len(body))},
                 "close": {"Connection": "close"}}[framing]
        lines = [f"HTTP/1.1 {step.status} {_REASONS.get(step.status, 'Other')}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **sizes}.items()]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        if step.twice:
            await self._write(head + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if framing == "chunked" else body))
        await self._write(head)
        for piece in _pieces(body, step, is_stream):
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
            await self._write(framed)
            if step.drip_s:
                await asyncio.sleep(step.drip_s)
        return await self._end(step, framing)

    async def _end(self, step: Step, framing: str) -> bool:
        if step.ending == "stall":
            await self.reader.read(1)
            self.close()
            return False
        if step.ending == "reset":
            self.reset()
            return False
        if framing == "chunked" and step.ending == "clean":
            await self._write(b"0\r\n\r\n")
        if framing == "close" or step.ending == "abrupt" or (framing == "length" and step.cut is not None):
            self.close()
            return False
        return True

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """Close with FIN."""
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):  # gone already
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def _pieces(body: bytes, step: Step, is_stream: bool) -> Iterator[bytes]:
    """The body in the pieces that are written; what is huge is made piece by piece."""
    if step.gzip_mb:
        yield from _bomb(step.gzip_mb)
        return
    if step.line_mb:
        yield b'data: {"filler":"' if is_stream else b'{"filler":"'
        for _ in range(step.line_mb):
            yield b"a" * MEGABYTE
    body = body if step.cut is None else body[: step.cut]
    size = step.drip_bytes or len(body) or 1
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _bomb(megabytes: int) -> Iterator[bytes]:
    """Gzip of a JSON body with one huge string. Every MB is the same block of about 1 kB, so it costs nothing to send;
    the checksum at the end is missing, as nobody should get there."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield packer.compress(b'{"choices":[{"message":{"content":"') + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"a" * MEGABYTE) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(megabytes):
        yield block
