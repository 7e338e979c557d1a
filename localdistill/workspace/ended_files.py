"""What the files of a run that only grow held when its status was written last: the size of each, and its checksum once
the run had ended. More may follow when the run goes on; what was there stays, so one that is gone, cut or another run's
is missed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.core.explaining import reason_of
from localdistill.core.seals import NOT_WRITTEN

KEY = "ended"
"""The key of the status that holds file -> [bytes, checksum of those, or nothing]."""


def sums_of(folder: str, names: tuple[str, ...], has_ended: bool = True) -> dict[str, list[Any]]:
    """Those of `names` that are there and can be read, as they are now. has_ended: nobody adds to them, so that a
    checksum says what they hold."""
    found: dict[str, list[Any]] = {}
    for name in names:
        with contextlib.suppress(OSError):
            size = os.stat(f"{folder}/{name}").st_size
            found[name] = [size, _sum(Path(folder, name), size) if has_ended else ""]
    return found


def missed(folder: Path, name: str, status: Mapping[str, Any], tick: Callable[[], None] = lambda: None) -> str:
    """What is wrong with a file of the run that has this `status`, to stand behind its name; empty when it begins with
    what it held then, or nobody noted that. tick: called between its parts; it may raise."""
    noted = status.get(KEY)
    said = noted.get(name) if isinstance(noted, dict) else None
    if not (isinstance(said, list) and len(said) == 2 and isinstance(said[0], int)):
        return ""
    try:
        size = os.stat(folder / name).st_size
        if size < said[0]:
            return f"has lost {said[0] - size:,} of {said[0]:,} bytes"
        return "" if not said[1] or _sum(folder / name, said[0], tick) == said[1] else NOT_WRITTEN
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read: {reason_of(error)}"


def _sum(path: Path, size: int, tick: Callable[[], None] = lambda: None) -> str:
    """The checksum of the first `size` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while size > 0 and (part := handle.read(min(size, BORDERS.checked_bytes))):
            digest.update(part)
            size -= len(part)
            tick()
    return f"sha256:{digest.hexdigest()}"
