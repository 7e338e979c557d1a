"""How large a file was that only grows, in a small file beside it. Where whole lines are gone from the end of a file of
lines, those that are left do not show it: this does. Written behind what it speaks of, so it is never ahead of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from localdistill.safety.files import atomic_write_bytes
from localdistill.safety.record_lines import decode, encode

SIDE = ".size"
"""Ending of the small file."""


def side_of(path: Path) -> Path:
    """Where the size of the file at `path` is kept."""
    return path.with_name(path.name + SIDE)


def side_line(size: int, **more: int) -> bytes:
    """What is kept there; always as long for the same names, so that it is replaced in one write."""
    return encode({"size": f"{size:020d}", **{name: f"{number:030d}" for name, number in more.items()}})


def said_in(side: bytes) -> dict[str, int]:
    """The numbers in such a line. ValueError when it is none."""
    said = decode(side.removesuffix(b"\n"))
    if said is None or "size" not in said:
        raise ValueError("it says no size")
    return {name: int(number) for name, number in said.items()}


class WrittenSize:
    """Keeps the size of the file at `path`. What cannot be written is left: then less is known, and nothing wrong."""

    def __init__(self, path: Path, size: int) -> None:
        """size: what the file holds now."""
        self._handle: int | None = None
        side = side_of(path)
        with contextlib.suppress(OSError):
            if not side.exists():  # it is never seen empty
                atomic_write_bytes(side, side_line(size))
            self._handle = os.open(side, os.O_WRONLY)
        self.keep(size)

    def keep(self, size: int) -> None:
        """The file holds so many bytes, which are on disk."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, side_line(size), 0)

    def close(self) -> None:
        """Harmless to call twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
