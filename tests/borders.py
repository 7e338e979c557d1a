"""Every border between parts at 2, so that whatever comes in parts comes in several: for one test (`small_borders`), or
for a whole run of the tests and every process that they start: `SMALL_BORDERS=1 pytest`, or `make test-borders`."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from localdistill.core.borders import BORDERS

SWITCH = "SMALL_BORDERS"
SITE = Path(__file__).with_name("small_borders")
"""Holds what Python reads when it starts: so the borders are small in child processes too."""
ROWS = 2
OTHERS: dict[str, float] = {
    "session_s": 0.0, "checked_bytes": 512, "header_bytes": 64, "pipe_bytes": 64, "call_tokens": 48,
}
"""Where 2 would be no part: bytes that are read millions of times, and calls that hold a token of every sequence."""


def small_borders() -> dict[str, float]:
    """The value of every border when all are small."""
    return {field.name: OTHERS.get(field.name, ROWS) for field in fields(BORDERS)}


def make_small() -> None:
    """In this process, from here on."""
    vars(BORDERS).update(small_borders())


def make_small_everywhere() -> None:
    """In this process and in those that it starts, when the switch says so."""
    if os.environ.get(SWITCH):
        make_small()
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH", ""))))
