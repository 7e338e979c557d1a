"""The log of a run: what its processes and their libraries say unasked, freed of keys line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from localdistill.safety.secrets import without_secrets

_LONGEST = 1 << 16
"""Bytes that may wait for the end of their line."""


class CleanedLog:
    """Takes bytes as they come and appends whole lines to a file. What the end of a line does not come to is written at
    the end."""

    def __init__(self, path: Path, learn: Callable[[], None] = lambda: None) -> None:
        """learn: lets this process know the keys that may come, before the first byte is looked at."""
        self._path, self._learn = path, learn
        self._rest = b""
        self._has_learned = False

    def take(self, data: bytes) -> None:
        """More of what was said."""
        data = self._rest + data
        end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))  # a bar of progress begins its line anew
        if not end and len(data) > _LONGEST:
            end = 1 + data.rfind(b" ") or len(data)
        self._rest = data[end:]
        self._write(data[:end])

    def end(self) -> None:
        """Nothing more comes."""
        rest, self._rest = self._rest, b""
        self._write(rest)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if not self._has_learned:
            self._learn()
            self._has_learned = True
        clean = without_secrets(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        with contextlib.suppress(OSError), open(self._path, "ab", buffering=0) as file:
            file.write(clean)  # a full disk must not end a run that it does not hurt: nobody promises the log
