"""Opens a file that somebody else packed: gzip and zstd are known by their first bytes and unpacked as they are read;
what unfolds to far more than the file holds is refused, with the figures. Knows nothing of rows."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError

MOST_UNFOLD = 100
"""How many times larger than the file its content may be: text of traces unfolds 3 to 30 times."""
UNREADABLE = (EOFError, OSError, zlib.error)
"""What reading a file raises that is cut off or damaged, or a disk that fails."""
_ALWAYS_BYTES = 16 << 20
"""What any file may unfold to: so much harms nobody."""
_OTHER_ARCHIVES = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}


class Unfolding:
    """Watches how much a file has unfolded to, against how much of it was read."""

    def __init__(self, name: str, packed_bytes: Callable[[], int], most: float = MOST_UNFOLD) -> None:
        """most: how many times larger than the file its content may be."""
        self._name, self._packed_bytes, self._most = name, packed_bytes, most
        self._bytes = 0

    def grown(self, count: int) -> None:
        """`count` more bytes came out. InputError when that is too much."""
        self._bytes += count
        if self._bytes > _ALWAYS_BYTES:
            self.require(self._bytes)

    def require(self, unfolded: int) -> None:
        """InputError when `unfolded` bytes are too many for what was read so far."""
        packed = max(1, self._packed_bytes())
        if unfolded <= max(_ALWAYS_BYTES, self._most * packed):
            return
        raise InputError(
            f"{self._name} unfolds to {unfolded / 1e6:,.0f} MB or more from {packed / 1e6:,.3g} MB, "
            f"{unfolded / packed:,.0f} times as much; more than {self._most:g} times is not taken",
            f"where you know who made it: localdistill import --unfold {2 * unfolded // packed:,}".replace(",", "")
            + ", or unpack it yourself")


@contextmanager
def opened(path: Path, unfold: float = MOST_UNFOLD) -> Iterator[IO[bytes]]:
    """The bytes of the file at `path`, unpacked. Raises InputError for an archive and for too much, UNREADABLE while it
    is read."""
    with path.open("rb", BORDERS.file_bytes) as raw:
        head = raw.read(8)
        raw.seek(0)
        archive = next((kind for magic, kind in _OTHER_ARCHIVES.items() if head.startswith(magic)), "")
        if archive:
            raise InputError(f"{path.name} is packed with {archive}, which is not read", "unpack it first")
        if head.startswith(b"\x1f\x8b"):
            yield _unpacked(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)), raw, path.name, unfold)
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            yield _unpacked(_zstd(raw), raw, path.name, unfold)
        else:
            yield raw


def _zstd(raw: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa

    return cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))


def _unpacked(inner: IO[bytes], raw: IO[bytes], name: str, unfold: float) -> IO[bytes]:
    return io.BufferedReader(_Unpacked(inner, Unfolding(name, raw.tell, unfold)), BORDERS.file_bytes)


class _Unpacked(io.RawIOBase):
    """The unpacked bytes, counted."""

    def __init__(self, inner: IO[bytes], watch: Unfolding) -> None:
        self._inner, self._watch = inner, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except ValueError as error:  # pyarrow's word for damage
            raise OSError(str(error)) from error
        self._watch.grown(len(data))
        buffer[:len(data)] = data
        return len(data)
