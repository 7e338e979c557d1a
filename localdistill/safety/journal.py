"""The journal of acknowledged replies: append-only lines, each with its own checksum, on disk within 50 ms. A reply is
acknowledged when its line is synced. The journal knows no store; the store reads it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.disk import FULL, disk_full
from localdistill.core.errors import DiskFull, LocalDistillError
from localdistill.safety.files import sync_folder

SYNC_WITHIN_S = 0.05


def encode(record: Mapping[str, Any]) -> bytes:
    """One line: the CRC-32 of the JSON in hex, a space, the JSON. Lone surrogates survive as escapes."""
    body = json.dumps(dict(record), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of one line without its newline, or None when the line is damaged."""
    check, _, body = line.partition(b" ")
    try:
        if int(check, 16) != zlib.crc32(body):
            return None
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class JournalWriter:
    """Appends records to one file; a thread syncs them in groups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the writer
        sync_folder(path.parent)
        self._end_torn_line()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._buffer: list[bytes] = []
        self._closed = False
        self._failure: LocalDistillError | None = None
        self._thread = threading.Thread(target=self._sync_in_groups, daemon=True, name="journal")
        self._thread.start()

    def _end_torn_line(self) -> None:
        """A writer that was killed may have left half a line; the next record starts on its own."""
        if self.path.stat().st_size:
            with open(self.path, "rb") as handle:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    self._file.write(b"\n")

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
            size = os.fstat(self._file.fileno()).st_size
            data = b"".join(self._buffer)
            waiting = len(data)
            try:
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(self._file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), size)
                self._failure = self._unwritten(error, waiting)
                raise self._failure from error
            self._buffer = []
            self._failure = None

    def _unwritten(self, error: OSError, size_bytes: int) -> LocalDistillError:
        if error.errno in FULL:
            full = disk_full(self.path, error.errno, size_bytes)
            return DiskFull(full.message, f"{full.hint}: resume goes on; what was acknowledged before is safe")
        return LocalDistillError(f"{self.path} cannot be written: {error.strerror}",
                                 "let it be written, and resume; what was acknowledged before is safe")

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


@dataclass
class Reading:
    """How a reading of a journal went."""

    damaged_lines: int = 0
    end: int = 0
    """Offset behind the last whole line, whatever it held."""


def read(path: Path, offset: int = 0, reading: Reading | None = None) -> Iterator[tuple[dict[str, Any], int]]:
    """Records from byte `offset` on, each with the offset behind it. A torn last line ends the reading; a damaged line
    in the middle is passed over and counted in `reading`."""
    if not path.exists():
        return
    with open(path, "rb") as handle:
        handle.seek(offset)
        for line in handle:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if reading:
                reading.end = offset
            record = decode(line[:-1])
            if record is not None:
                yield record, offset
            elif line.strip() and reading:
                reading.damaged_lines += 1
