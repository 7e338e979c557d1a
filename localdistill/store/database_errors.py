"""What errors of the database mean, and what a person can do about them. Opens nothing."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from localdistill.core.disk import disk_full
from localdistill.core.errors import LocalDistillError, OutOfMemory, StoreError, StoreLocked, StoreReadOnly

LOCKED = ("Could not set lock",)
"""What DuckDB says of a file that another process has open."""
FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted", "in read-only mode")
"""What it says where nobody may write."""
_NO_MEMORY = ("bad allocation", "bad_alloc")
_FULL = ("No space left", "isk quota")
_DAMAGED = ("not a valid DuckDB", "Corrupt", "checksum", "Could not read enough bytes", "Is a directory")
"""What it says of a file that is cut off, overwritten or something else."""
_HOLDER = re.compile(r"\(PID (\d+)\)")


def is_forbidden(error: BaseException) -> bool:
    """Whether nobody may write there. What DuckDB says of a file that somebody reads speaks of read-only mode too."""
    return says(error, FORBIDDEN) and not says(error, LOCKED)


def says(error: BaseException, texts: Sequence[str]) -> bool:
    """Whether the message of `error` holds one of `texts`."""
    return any(text in str(error) for text in texts)


def explained(path: Path, error: Exception) -> LocalDistillError:
    """The error of ours for an error of the database on the file `path`."""
    import duckdb

    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if says(error, _FULL):
        full = disk_full(path, errno.EDQUOT if "quota" in text else errno.ENOSPC)
        return StoreError(full.message, f"{full.hint}; nothing that was acknowledged is lost")
    if isinstance(error, duckdb.OutOfMemoryException) or says(error, _NO_MEMORY):
        return OutOfMemory(f"memory ran out while {path.name} was open: {text}",
                           "close other programs, or raise a limit (ulimit -v); what was stored before is kept")
    if is_forbidden(error):
        return only_readable(path, "cannot be written")
    senseless = (duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
    if says(error, _DAMAGED) or isinstance(error, senseless):
        aside = free_name(path)
        return StoreError(
            f"{path} is damaged: {text}",
            "`localdistill store rebuild` makes it again of what the journals hold and keeps this one beside; so does "
            f"any command after mv {shlex.quote(str(path))} {shlex.quote(str(aside))}; nothing that was answered is "
            "asked again",
        )
    return StoreError(f"{path.name}: {text}", "")


def only_readable(path: Path, what: str) -> StoreReadOnly:
    """The error for a store at which nobody may write."""
    return StoreReadOnly(f"{path} {what}",
                         "let it be written (chmod u+w on its folder and files), or copy the workspace to where it can")


def locked(path: Path, error: Exception, waited_s: float) -> StoreLocked:
    """The error for a file that stayed busy; names who has it."""
    found = _HOLDER.search(str(error))
    holder = process_name(int(found.group(1))) if found else "another process"
    return StoreLocked(f"{path.name} is held by {holder}; waited {waited_s:g} s",
                       "end that process, or close the other program that opened the file")


def process_name(pid: int) -> str:
    """`name (PID n)`; a Python program goes by its script's name."""
    import psutil

    try:
        process = psutil.Process(pid)
        name, arguments = process.name(), process.cmdline()
        if name.startswith("python") and len(arguments) > 1 and not arguments[1].startswith("-"):
            name = Path(arguments[1]).name
    except psutil.Error:
        name = "a process"
    return f"{name} (PID {pid})"


def free_name(path: Path) -> Path:
    """Where a damaged file can go, beside itself."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside
