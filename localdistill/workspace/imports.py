"""Imports that were begun: each leaves a note while it runs, so that one which was killed is known at the next look,
with what it left. The rows themselves are the store's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localdistill.core.errors import InputError, StoreLocked
from localdistill.core.records import content_id
from localdistill.workspace.folder import Workspace

FOLDER = "imports"


@dataclass(frozen=True)
class Unfinished:
    """An import that ended before its file did."""

    file: str
    rows: int
    """Rows that were stored."""
    note: Path
    """Where that is written down."""


@contextmanager
def begun(workspace: Workspace, file: Path, named: str = "") -> Iterator[Callable[[int], None]]:
    """Note that `file` is being imported, until the block ends; the function is told how many rows are stored. named:
    what a person calls it, where it lies in a place that is nobody's. StoreLocked when another process imports the same
    file."""
    path = named or file.resolve()
    note = workspace.root / FOLDER / f"{content_id('import', str(path)).removeprefix('b2:')[:16]}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    stored = 0
    with open(os.open(note, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLocked(f"{named or file.name} is being imported by another process",
                              "wait until it is done") from None

        def progress(rows: int) -> None:
            nonlocal stored
            stored = rows
            said = json.dumps({"file": str(path), "rows": rows})
            os.pwrite(handle.fileno(), said.encode() + b"\n", 0)  # rows only grow, so each covers the one before

        os.ftruncate(handle.fileno(), 0)
        progress(0)
        try:
            yield progress
        except BaseException as error:
            if isinstance(error, InputError) or not stored:  # what it left was said, or is nothing
                note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)


def unfinished(workspace: Workspace) -> list[Unfinished]:
    """Imports that were begun and killed."""
    found = []
    for note in sorted((workspace.root / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError), note.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # it is running
            found.append(_read(note, handle.read(65_536)))
    return found


def _read(note: Path, data: bytes) -> Unfinished:
    try:
        said = json.loads(data)
        return Unfinished(str(said["file"]), int(said["rows"]), note)
    except (ValueError, TypeError, KeyError):
        return Unfinished("a file", 0, note)
