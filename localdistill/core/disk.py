"""What a full disk means in words: which file system, what is free of it, what was needed. It looks and changes
nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from localdistill.core.errors import DiskFull

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the system's errors that say that no more can be written."""

_FULL_BELOW = 1 << 22
"""Free bytes of a disk that is as good as full."""


def size_text(size_bytes: float) -> str:
    """Bytes as people read them: `12 B`, `1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000 or unit == "GB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class FileSystem:
    """Where files lie."""

    mount: Path
    """Its topmost folder."""
    free_bytes: int
    """That this user may still fill."""
    total_bytes: int
    free_files: int
    """How many files can be added; -1: as many as fit."""


def file_system_of(path: Path) -> FileSystem:
    """The file system on which `path` lies or would lie. OSError when nothing of the path can be looked at."""
    here = path.absolute()
    while not os.path.lexists(here):
        here = here.parent
    here = here.resolve()
    device = here.stat().st_dev
    mount = here
    while mount.parent != mount and mount.parent.stat().st_dev == device:
        mount = mount.parent
    facts = os.statvfs(here)
    return FileSystem(mount, facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize,
                      facts.f_favail if facts.f_files else -1)


def require_room(folder: Path, needed_bytes: int, what: str) -> None:
    """DiskFull when `what`, which takes at most `needed_bytes`, may not fit where `folder` lies."""
    found = file_system_of(folder)
    if needed_bytes > found.free_bytes:
        raise DiskFull(f"{what} may need {size_text(needed_bytes)}, and the disk at {found.mount} has "
                       f"{size_text(found.free_bytes)} free: nothing was done",
                       f"free some space on {found.mount}, then run it again")


def disk_full(path: Path, number: int | None = errno.ENOSPC, needed_bytes: int | None = None,
              held_bytes: int = 0) -> DiskFull:
    """The error for a file that does not fit. number: what the system said, one of FULL. needed_bytes: the size of the
    whole file, None when nobody knows. held_bytes: what of it was written, and is given back."""
    whole = f"needs {size_text(needed_bytes)}" if needed_bytes is not None else "needs more"
    if number == errno.EFBIG:
        return DiskFull(f"{path.name} would grow larger than a file may be here: it {whole}, and "
                        f"{size_text(held_bytes)} of it could be written to {path.parent}",
                        "`ulimit -f` says what this user may write; a FAT disk holds 4 GB in a file")
    try:
        found = file_system_of(path)
    except OSError:
        return DiskFull(f"the disk is full: {path} {whole}", "free some disk and run it again")
    if number == errno.EDQUOT:
        return DiskFull(f"this user's quota on {found.mount} is used up: {path.name} {whole}",
                        "remove files of yours there (`quota` says how many), then run it again")
    if not found.free_files and found.free_bytes > (needed_bytes or 0):
        return DiskFull(f"no file can be added on {found.mount}: it has no free inode, and {path.name} needs one",
                        "remove files there (`df -i` says how many it holds), then run it again")
    return DiskFull(f"the disk at {found.mount} ({size_text(found.total_bytes)}) is full: {path.name} "
                    + _lack(found.free_bytes, needed_bytes, held_bytes),
                    f"free some space on {found.mount}, then run it again")


def _lack(free_bytes: int, needed_bytes: int | None, held_bytes: int) -> str:
    """How much is missing, as far as the figures can be believed: others may have freed some space meanwhile."""
    room = free_bytes + held_bytes
    if needed_bytes is not None and needed_bytes > room:
        return f"needs {size_text(needed_bytes)}, {size_text(room)} are free"
    if needed_bytes is None and free_bytes < _FULL_BELOW:
        return f"needs more than the {size_text(room)} that are free"
    return f"found no room; by now {size_text(free_bytes)} are free"
