"""Compressed lines: zstd frames of whole lines, each behind a header that says what it holds, so that a cut or damaged
file loses one frame at most and it is known how many lines that were. To zstd the headers are frames to skip: any tool
unpacks the file."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from localdistill.core.borders import BORDERS

FAST, SMALL = 2, 6
"""Levels of zstd: for lines that somebody waits for, and for those that are put away (a tenth smaller, in six times the
time)."""

_TAG = (0x184D2A5D).to_bytes(4, "little")
_NAME = b"ldj1"
_FIELDS = struct.Struct("<QQIIII")
_SIZE = struct.Struct("<I")
_BODY_BYTES = len(_NAME) + _FIELDS.size + _SIZE.size
_BEGIN = _TAG + _SIZE.pack(_BODY_BYTES) + _NAME
_HEADER_BYTES = len(_TAG) + _SIZE.size + _BODY_BYTES
_WINDOW = 1 << 20
_UNPACKED = 1 << 12


@dataclass
class Reading:
    """How a reading of lines went."""

    damaged_lines: int = 0
    end: int = 0
    """Offset behind the last whole line, whatever it held."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file. Offsets and lines are counted as if nothing were compressed."""

    start: int
    first_line: int
    size: int
    """Bytes of text."""
    lines: int
    packed: int
    """Bytes in the file."""
    checksum: int
    """Of those."""
    place: int
    """Where they begin in the file."""

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.start + self.size

    @property
    def behind(self) -> int:
        """The place in the file behind it."""
        return self.place + self.packed


@dataclass(frozen=True, slots=True)
class ClosedEnd:
    """What a file of frames holds, so that nobody needs to look through it."""

    size_bytes: int
    offset: int
    """Behind its last line."""
    lines: int


def frames(file: BinaryIO, reading: Reading | None = None) -> Iterator[Frame]:
    """The frames whose header can be read, in the order of the file; nothing is unpacked. What stands behind the last
    one counts as one lost line in `reading`: how many it was, nobody knows."""
    size, place, known = os.fstat(file.fileno()).st_size, 0, 0
    while place < size:
        file.seek(place)
        frame = _frame_in(file.read(_HEADER_BYTES), place)
        if frame is None:  # bytes may have been lost before here as well as changed
            found = _next_header(file, known)
            if found is None:
                if reading is not None:
                    reading.damaged_lines += 1
                return
            frame = found
        yield frame
        place, known = frame.behind, frame.place


def _frame_in(header: bytes, place: int) -> Frame | None:
    if len(header) < _HEADER_BYTES or not header.startswith(_BEGIN):
        return None
    fields, check = header[len(_BEGIN):-_SIZE.size], header[-_SIZE.size:]
    if zlib.crc32(fields) != _SIZE.unpack(check)[0]:
        return None
    start, first_line, size, lines, packed, checksum = _FIELDS.unpack(fields)
    return Frame(start, first_line, size, lines, packed, checksum, place + _HEADER_BYTES)


def _next_header(file: BinaryIO, place: int) -> Frame | None:
    """The first whole header from `place` on."""
    file.seek(place)
    held = b""
    while chunk := file.read(_WINDOW):
        held += chunk
        at = held.find(_BEGIN)
        while at >= 0:
            if len(held) < at + _HEADER_BYTES:
                held += file.read(_HEADER_BYTES)
            if frame := _frame_in(held[at:at + _HEADER_BYTES], place + at):
                return frame
            at = held.find(_BEGIN, at + 1)
        kept = min(len(held), len(_BEGIN) - 1)
        place, held = place + len(held) - kept, held[len(held) - kept:]
    return None


def text_of(file: BinaryIO, frame: Frame) -> tuple[bytes, bool]:
    """The text of a frame and whether it is whole; of a damaged one what comes before the damage, to the end of its
    last line."""
    import pyarrow as pa

    file.seek(frame.place)
    packed = file.read(frame.packed)
    if len(packed) == frame.packed and zlib.crc32(packed) == frame.checksum:
        return pa.Codec("zstd").decompress(packed, frame.size, asbytes=True), True
    text = bytearray()
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            while len(text) < frame.size and (chunk := stream.read(_UNPACKED)):
                text += chunk
    except (OSError, pa.ArrowException):
        pass
    del text[frame.size:]
    return bytes(text[:text.rfind(b"\n") + 1]), False


def copy_of(file: BinaryIO, frame: Frame) -> bytes:
    """A frame as it is in the file, with its header."""
    file.seek(frame.place - _HEADER_BYTES)
    return file.read(_HEADER_BYTES + frame.packed)


def lines(file: BinaryIO, offset: int, until: int | None, reading: Reading) -> Iterator[tuple[bytes, int]]:
    """Every line between two offsets, with its end and the offset behind it; lost ones are counted in `reading`."""
    line = 0
    for frame in frames(file, reading):
        if until is not None and frame.start >= until:
            return
        if frame.end <= offset or frame.end <= reading.end:
            line = frame.first_line + frame.lines
            continue
        reading.damaged_lines += max(0, frame.first_line - line)
        line = frame.first_line + frame.lines
        text, is_whole = text_of(file, frame)
        if not is_whole:
            reading.damaged_lines += max(0, frame.lines - text.count(b"\n"))
        yield from _lines_in(text, frame.start, offset)
        reading.end = max(reading.end, frame.end)


def _lines_in(text: bytes, start: int, offset: int) -> Iterator[tuple[bytes, int]]:
    at = max(0, offset - start)
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        yield text[at:end], start + end
        at = end


class FrameWriter:
    """Compresses lines into a file that is open for writing, behind what it holds."""

    def __init__(self, file: BinaryIO, start: int = 0, first_line: int = 0, level: int = SMALL) -> None:
        """start, first_line: of the next line."""
        self._file, self._start, self._line, self._level = file, start, first_line, level
        self._held: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        """Add one line, with its end."""
        self._held.append(line)
        self._size += len(line)
        if self._size >= BORDERS.frame_bytes:
            self.flush()

    def flush(self) -> None:
        """End the frame. What was added is in the file, not yet synced."""
        if self._held:
            self._write(b"".join(self._held))
            self._held, self._size = [], 0

    def copy(self, file: BinaryIO) -> ClosedEnd:
        """Add the rest of a file of lines, the last one with an end, and end the frame; returns what the file that is
        written holds now."""
        while text := file.read(BORDERS.frame_bytes):
            text += b"" if text.endswith(b"\n") else file.readline()
            self._write(text if text.endswith(b"\n") else text + b"\n")
        return ClosedEnd(self._file.tell(), self._start, self._line)

    def _write(self, text: bytes) -> None:
        lines = text.count(b"\n")
        write_frame(self._file, text, self._start, self._line, lines, self._level)
        self._start += len(text)
        self._line += lines


def write_frame(file: BinaryIO, text: bytes, start: int, first_line: int, lines: int, level: int = SMALL) -> None:
    """Write one frame."""
    import pyarrow as pa

    packed = pa.Codec("zstd", compression_level=level).compress(text, asbytes=True)
    fields = _FIELDS.pack(start, first_line, len(text), lines, len(packed), zlib.crc32(packed))
    file.write(_BEGIN + fields + _SIZE.pack(zlib.crc32(fields)) + packed)
