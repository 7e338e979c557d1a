"""Folders for what is only needed for a while. They lie beside what is made with their help, so that those which a
killed process left are found with it: whoever makes it again removes them, and so does `runs prune`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".scratch-"


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A folder in `beside` for the length of the block."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=beside) as name:
        yield Path(name)


def remove_scratch(folder: Path) -> None:
    """Remove what a killed process left in `folder`. Nobody works there meanwhile."""
    for left in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
