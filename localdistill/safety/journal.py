"""The journal of acknowledged records: append-only lines, each with its own checksum, on disk within 50 ms. A record is
acknowledged when its line is synced. The journal knows no store; the store reads it.

A journal is named by one path. Its open part is a file of lines at that path; its closed part, which comes before, is
the file `PATH.zst` of compressed frames. Offsets count bytes of lines from the beginning of the closed part, so closing
moves nothing. An open part behind a closed one begins with a line that says where it goes on. While somebody writes,
`PATH.size` says up to which offset: whole lines that are gone from the end are missed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from localdistill.core.disk import FULL, disk_full
from localdistill.core.errors import DiskFull, LocalDistillError
from localdistill.core.seals import NOT_WRITTEN
from localdistill.safety.files import sync_folder
from localdistill.safety.frames import Reading, frames, lines, text_of
from localdistill.safety.record_lines import decode, encode
from localdistill.safety.written_size import SIDE, WrittenSize, said_in

SYNC_WITHIN_S = 0.05
CLOSED = ".zst"
"""Ending of a closed part."""
GOES_ON = "goes_on_at"
"""The key of the first line of an open part behind a closed one."""


def closed_part(path: Path) -> Path:
    """Where the closed part of a journal lies."""
    return path.with_name(path.name + CLOSED)


def parts_of(path: Path) -> tuple[Path, Path]:
    """Where the closed and the open part lie."""
    return closed_part(path), path


def sizes(path: Path) -> tuple[int, int]:
    """Bytes on disk of the closed and of the open part of a journal, 0 for one that is not there: as long as they stay,
    nothing was added. OSError when they cannot be looked at."""
    return _size(closed_part(path)), _size(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class JournalWriter:
    """Appends records to one journal; a thread syncs them in groups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the writer
        sync_folder(path.parent)
        begin_lines(path, self._file)
        self._end = _end_of(path)
        self._size = WrittenSize(path, self._end)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._buffer: list[bytes] = []
        self._closed = False
        self._failure: LocalDistillError | None = None
        self._thread = threading.Thread(target=self._sync_in_groups, daemon=True, name="journal")
        self._thread.start()

    def append(self, record: Mapping[str, Any]) -> None:
        """Hand over one record; it is on disk at most 50 ms later. LocalDistillError when an earlier write failed."""
        line = encode(record)
        with self._lock:
            if self._failure:
                raise self._failure
            self._buffer.append(line)
        self._wake.set()

    def sync(self) -> None:
        """Everything handed over is on disk when this returns. LocalDistillError when it cannot be written: it is kept
        in memory, and another call tries again."""
        with self._lock:
            if not self._buffer:
                return
            try:
                write_lines(self._file, self.path, b"".join(self._buffer))
            except LocalDistillError as error:
                self._failure = error
                raise
            self._end += sum(map(len, self._buffer))
            self._size.keep(self._end)
            self._buffer = []
            self._failure = None

    def _sync_in_groups(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            if not self._closed:
                time.sleep(SYNC_WITHIN_S / 2)
            try:
                self.sync()
            except LocalDistillError:
                return

    def close(self) -> None:
        """Sync and close. Harmless to call twice."""
        if not self._closed:
            self._closed = True
            self._wake.set()
            self._thread.join()
            try:
                self.sync()
            finally:
                self._file.close()
                self._size.close()


def begin_lines(path: Path, file: BinaryIO, end: int | None = None) -> None:
    """Let the next line of an open part, which is open for appending, stand on its own: one that begins says where it
    goes on, and half a line that a killed writer left gets its end. end: the offset behind all lines, where that is
    known."""
    if not os.fstat(file.fileno()).st_size:
        if closed_part(path).exists():
            file.write(encode({GOES_ON: _closed_end(path) if end is None else end}))
        return
    if is_torn(path):
        file.write(b"\n")


def is_torn(path: Path) -> bool:
    """Whether the open part of a journal ends in the middle of a line, as a machine leaves it that lost its power."""
    with ExitStack() as stack:
        handle = opened_part(path, stack)
        if handle is None or not os.fstat(handle.fileno()).st_size:
            return False
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"


def write_lines(file: BinaryIO, path: Path, data: bytes) -> None:
    """Append `data` to a file that is open without a buffer, on disk when this returns, whole or not at all.
    LocalDistillError when it cannot be written."""
    size, waiting = os.fstat(file.fileno()).st_size, len(data)
    try:
        while data:
            data = data[file.write(data):]
        os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise _unwritten(path, error, waiting) from error


def _unwritten(path: Path, error: OSError, size_bytes: int) -> LocalDistillError:
    if error.errno in FULL:
        full = disk_full(path, error.errno, size_bytes)
        return DiskFull(full.message, f"{full.hint}: resume goes on; what was acknowledged before is safe")
    return LocalDistillError(f"{path} cannot be written: {error.strerror}",
                             "let it be written, and resume; what was acknowledged before is safe")


def read(path: Path, offset: int = 0, reading: Reading | None = None) -> Iterator[tuple[dict[str, Any], int]]:
    """Records from byte `offset` on, each with the offset behind it. A torn last line ends the reading; a damaged line
    in the middle is passed over and counted in `reading`."""
    reading = Reading() if reading is None else reading
    for line, end in read_lines(path, offset, reading):
        record = decode(line[:-1])
        if record is not None:
            yield record, end
        elif line.strip():
            reading.damaged_lines += 1


def read_lines(path: Path, offset: int, reading: Reading) -> Iterator[tuple[bytes, int]]:
    """The same, as lines with their newline, whatever they hold."""
    reading.end = offset
    with ExitStack() as stack:
        opened = opened_part(path, stack)
        base, skipped = base_of(path, opened) if opened else (None, 0)
        if (closed := opened_part(closed_part(path), stack)) is not None and (base is None or offset < base):
            yield from lines(closed, offset, base, reading)
        if opened is None or base is None:
            return
        place = max(offset, base)
        opened.seek(skipped + place - base)
        for line in opened:
            if not line.endswith(b"\n"):
                return
            place += len(line)
            reading.end = place
            yield line, place


def bytes_before(path: Path, end: int, size: int) -> bytes:
    """At most the last `size` bytes of the lines before the offset `end`: what tells one journal from another."""
    start, found = max(0, end - size), bytearray()
    for line, behind in read_lines(path, start, Reading()):
        begin = behind - len(line)
        if begin >= end:
            break
        found += line[max(0, start - begin):end - begin]
    return bytes(found)


def lost_end(path: Path) -> str:
    """What is gone from the end of a journal, to stand behind its name; empty where it holds all that was ever written,
    or nobody noted how much that was. OSError when it cannot be read."""
    try:
        with open(f"{path}{SIDE}", "rb") as side:
            wrote = said_in(side.read())["size"]
    except FileNotFoundError:
        return ""
    except ValueError:
        return f"may have lost its end: {path.name}{SIDE}, which tells, {NOT_WRITTEN}"
    if (end := _end_of(path)) >= wrote:
        return ""
    return f"has lost {wrote - end:,} of {wrote:,} bytes" if end else "is gone"


def _end_of(path: Path) -> int:
    """The offset behind all that a journal holds."""
    with ExitStack() as stack:
        if (opened := opened_part(path, stack)) is None:
            return _closed_end(path)
        base, skipped = base_of(path, opened)
        return base + os.fstat(opened.fileno()).st_size - skipped


def opened_part(path: Path, stack: ExitStack) -> BinaryIO | None:
    """The file, open for reading as long as `stack`; None when there is none."""
    try:
        return stack.enter_context(open(path, "rb"))
    except FileNotFoundError:
        return None


def base_of(path: Path, opened: BinaryIO) -> tuple[int, int]:
    """The offset of the first line of an open part, and the place where that line begins. A closing that was
    interrupted may have left the same lines in both parts: then the open part counts."""
    base, skipped = (said, opened.tell()) if (said := goes_on(opened)) is not None else (0, 0)
    end = _closed_end(path)
    if end <= base or _holds_same(path, opened, base, skipped):
        return base, skipped
    return end, skipped


def goes_on(opened: BinaryIO) -> int | None:
    """The offset that the first line of an open part names, which is read; None where it names none."""
    opened.seek(0)
    said = (decode(opened.readline()[:-1]) or {}).get(GOES_ON)
    return said if isinstance(said, int) else None


def _holds_same(path: Path, opened: BinaryIO, base: int, skipped: int) -> bool:
    """Whether all that is closed behind `base` is in the open part too."""
    opened.seek(skipped)
    with open(closed_part(path), "rb") as closed:
        for frame in frames(closed):
            if frame.start >= base:
                text, is_whole = text_of(closed, frame)
                if not is_whole or opened.read(len(text)) != text:
                    return False
            elif frame.end > base:
                return False
    return True


def _closed_end(path: Path) -> int:
    """The offset behind the closed part."""
    with ExitStack() as stack:
        closed = opened_part(closed_part(path), stack)
        return max((frame.end for frame in frames(closed)), default=0) if closed is not None else 0
