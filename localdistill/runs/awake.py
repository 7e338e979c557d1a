"""Keeps a Mac awake while a stage works: one that goes to sleep would stop it until somebody comes back. Elsewhere, and
while a run waits for mains power, it does nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localdistill.modelfiles.apple import is_apple_silicon
from localdistill.safety.children import NOTHING, start

CAFFEINATE = "/usr/bin/caffeinate"


def _start(command: Sequence[str]) -> None:
    start(list(command), stdin=NOTHING, stdout=NOTHING, stderr=NOTHING)


def keep_awake(process: int, begin: Callable[[Sequence[str]], None] = _start) -> None:
    """Keep this machine, though not its display, awake until the process with this number ends, however it ends. A
    program that is not there is no reason to stop."""
    if not is_apple_silicon():
        return
    try:
        begin([CAFFEINATE, "-i", "-s", "-w", str(process)])
    except OSError:
        return
