"""Bodies that could not be read, kept with their bytes: they were paid for, and show what a server really sent."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localdistill.core.records import Reply
from localdistill.safety.frames import Reading
from localdistill.safety.journal import read
from localdistill.safety.record_lines import encode
from localdistill.workspace.run_folder import QUARANTINE, RunFolder


@dataclass(frozen=True)
class Quarantined:
    """One unreadable body."""

    request_id: str
    prompt_id: str
    teacher: str
    """Identity of who answered."""
    error: str
    body: bytes
    """As it came; of a very large one the start."""
    at: float
    """Seconds since the epoch."""


def quarantine(path: Path, reply: Reply, prompt_id: str, teacher: str) -> None:
    """Append the raw body of a failed reply to the file `path`, on disk when this returns."""
    line = encode({
        "request": reply.request_id, "prompt": prompt_id, "teacher": teacher, "error": reply.error,
        "body": base64.b64encode(reply.raw.encode("utf-8", "surrogateescape")).decode(), "at": round(time.time(), 3),
    })
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)


def read_quarantine(path: Path, reading: Reading | None = None) -> Iterator[Quarantined]:
    """What stands in quarantine, oldest first; an empty run has nothing there. Lines that are no such thing are passed
    over and counted in `reading`."""
    reading = Reading() if reading is None else reading
    for record, _ in read(path, 0, reading):
        try:
            yield Quarantined(record["request"], record["prompt"], record["teacher"], record["error"],
                              base64.b64decode(record["body"]), record["at"])
        except (KeyError, TypeError, ValueError):
            reading.damaged_lines += 1


def quarantined(run: RunFolder) -> tuple[list[Quarantined], str]:
    """What stands in the quarantine of a run, and what of it is lost, in words; empty when nothing is."""
    reading = Reading()
    found = list(read_quarantine(run.quarantine, reading))
    why = run.lost_since(QUARANTINE)
    if reading.damaged_lines and not why:
        why = f"has {reading.damaged_lines:,} damaged lines"
    return found, f"{QUARANTINE} {why}" if why else ""
