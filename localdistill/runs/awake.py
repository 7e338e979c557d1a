"""Keeps a Mac awake while a run works: one that goes to sleep would stop it until somebody comes back. Elsewhere it
does nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from localdistill.modelfiles.apple import is_apple_silicon
from localdistill.safety.children import NOTHING, start

CAFFEINATE = "/usr/bin/caffeinate"


def _start(command: Sequence[str]) -> None:
    start(list(command), stdin=NOTHING, stdout=NOTHING, stderr=NOTHING)


def keep_awake(begin: Callable[[Sequence[str]], None] = _start) -> None:
    """Keep this machine, though not its display, awake until this process ends, however it ends. A program that is not
    there is no reason to stop."""
    if not is_apple_silicon():
        return
    try:
        begin([CAFFEINATE, "-i", "-s", "-w", str(os.getpid())])
    except OSError:
        return
