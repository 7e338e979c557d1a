"""Files that are whole or absent: atomic writes, checksums, and names that cannot leave their folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localdistill.core.borders import BORDERS
from localdistill.core.disk import FULL, disk_full
from localdistill.core.errors import LocalDistillError, UsageError

Stamp = tuple[int, int, int]


def sha256_file(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """`sha256:<hex>` of a file's bytes. `tick` is called between its parts and may raise."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(BORDERS.checked_bytes):
            digest.update(chunk)
            tick()
    return f"sha256:{digest.hexdigest()}"


def stamp_of(path: Path | str) -> Stamp | None:
    """By what it is told, without a look into it, whether the file at `path` is still the one that it was: which one it
    is, its size, when it was changed. None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def is_locked(path: Path | str) -> bool:
    """True while a process holds the file at `path` by a lock of the system (flock); such a lock ends with it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def free_bytes(path: Path) -> int:
    """Free disk space where `path` is or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def folder_bytes(folder: Path) -> int:
    """What all files below `folder` hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; ignored where the system cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def publish(partial: Path, final: Path) -> None:
    """Give a finished file or folder its final name, durably."""
    if partial.is_file():
        sync_file(partial)
    os.replace(partial, final)
    sync_folder(final.parent)


@contextmanager
def partial_file(final: Path, needed_bytes: int | None = None) -> Iterator[Path]:
    """A path `final.partial` to write to; it becomes `final` when the block ends well and disappears when it does not.
    needed_bytes: how large it will be, where that is known. DiskFull names the file system and what was needed."""
    partial = final.with_name(final.name + ".partial")
    try:
        yield partial
        publish(partial, final)
    except OSError as error:
        held = partial.stat().st_size if partial.is_file() else 0
        full = disk_full(final, error.errno, needed_bytes, held) if error.errno in FULL else None
        partial.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """What the system says while `path` is written becomes an error of ours. DiskFull names the file system and what is
    free; LocalDistillError says why else `what` (the file, where nothing else is said) cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path, error.errno) from error
        raise LocalDistillError(f"{what or path} cannot be written: {error.strerror or error}",
                                f"let {path.parent} be written, then run it again") from error


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with partial_file(path, len(data)) as partial:
        partial.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    atomic_write_bytes(path, text.encode("utf-8", "surrogatepass"))


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`; UsageError when it would lead outside."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UsageError(f"'{name}' leads outside of its folder", "use a plain file name")
    return path
