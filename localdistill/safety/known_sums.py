"""Checksums of files that were read before, so that a file is read once per version: by this process from memory, and
by the next one from a small file beside the folder.

A version is size, time of the last change of the bytes, time of the last change of the file, and inode. Whoever changes
a byte changes one of them, so damage is never remembered as whole. Out of scope is what changes bytes and none of
these: a disk that rots below the file system, or somebody who sets the clock back. Who must know reads `afresh`, as
`localdistill verify` does."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localdistill.core.seals import sealed, unsealed
from localdistill.safety.files import atomic_write_text, sha256_file

WORTH_BYTES = 1 << 20
"""Less than this is read again sooner than looked up."""
_RECENT_NS = 50_000_000
"""File systems tell times apart by some milliseconds: what was written within this time may be written again and look
the same, so it is not remembered."""

_Version = tuple[int, int, int, int]
_seen: dict[str, tuple[_Version, str]] = {}
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class KnownSums:
    """The checksums of the files of one folder."""

    def __init__(self, folder: Path, afresh: bool = False) -> None:
        """afresh: believe nothing that was read before."""
        self._folder, self._afresh = folder, afresh
        self._read_bytes = 0
        self._is_loaded = afresh

    def sha256(self, name: str, tick: Callable[[], None]) -> str:
        """`sha256:<hex>` of a file. Two threads that want the same file read it once. OSError when it cannot be read;
        `tick` is called meanwhile and may raise."""
        path = self._folder / name
        place = os.path.abspath(path)
        with _turns[place]:
            version = _version(path)
            if not self._afresh and (known := self._known(place, version)):
                return known
            digest = sha256_file(path, tick)
            self._read_bytes += version[0]
            is_settled = time.time_ns() - max(version[1], version[2]) > _RECENT_NS
            if is_settled and version == _version(path):
                _seen[place] = version, digest
            else:
                _seen.pop(place, None)
            return digest

    def _known(self, place: str, version: _Version) -> str:
        for _ in range(2):
            known = _seen.get(place)
            if known is not None and known[0] == version:
                return known[1]
            self._load()
        return ""

    def _load(self) -> None:
        """Take in what other processes read. A memory that is damaged, or not there, is none."""
        if self._is_loaded:
            return
        self._is_loaded = True
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            for name, (*version, digest) in unsealed(memory_of(self._folder).read_bytes())["files"].items():
                size, changed, moved, inode = map(int, version)
                _seen.setdefault(os.path.abspath(self._folder / name), ((size, changed, moved, inode), str(digest)))

    def keep(self) -> None:
        """Let other processes know what was read, where that is worth it and the place can be written."""
        if self._read_bytes < WORTH_BYTES:
            return
        files = {os.path.relpath(place, self._folder): [*version, digest] for place, (version, digest) in _seen.items()
                 if place.startswith(os.path.abspath(self._folder) + os.sep)}
        with contextlib.suppress(OSError):
            atomic_write_text(memory_of(self._folder), sealed({"files": files}))


@contextmanager
def known_sums(folder: Path, afresh: bool = False) -> Iterator[KnownSums]:
    """The checksums of the files in `folder`; what was read is kept at the end."""
    sums = KnownSums(folder, afresh)
    try:
        yield sums
    finally:
        sums.keep()


def memory_of(folder: Path) -> Path:
    """Where it is kept what was read in `folder`: beside it, so that nothing of ours lies among what a user copies."""
    return folder.with_name(f".seen-{folder.name}")


def _version(path: Path) -> _Version:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
