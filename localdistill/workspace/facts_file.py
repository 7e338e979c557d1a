"""The file of a run's facts: one JSON object a line, each with the number of its line and a checksum, so that one that
was changed or taken out is missed. Lines that are older have neither and are read as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localdistill.core.events import Event, RunFinished, event_from_json
from localdistill.core.seals import CRC, is_line_whole, sealed_line

_NUMBER = "line"
_OURS = (_NUMBER, CRC)
_LAST_BYTES = 1 << 16


def fact_line(event: Event, at: float, number: int) -> bytes:
    """A fact as the line with this number, from 1. at: when it happened, seconds since the epoch."""
    return sealed_line(json.dumps({"at": round(at, 3), **event.to_json(), _NUMBER: number}, ensure_ascii=False))


def facts_in(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Facts from byte `offset` on, each with the offset behind it; damaged lines are passed over."""
    try:
        with open(path, "rb") as handle:
            handle.seek(offset)
            for line in handle:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                event = _event_of(line)
                if event:
                    yield event, offset
    except FileNotFoundError:
        return


def lost_lines(path: Path) -> int:
    """How many whole lines are not what was written, hold no object, or were taken out, which the numbers of the others
    tell."""
    lost, place = 0, 0
    try:
        with open(path, "rb") as handle:
            for line in handle:
                place += 1
                if line.endswith(b"\n") and line.strip():
                    said = _said(line)
                    lost += said is None
                    number = (said or {}).get(_NUMBER)
                    if isinstance(number, int) and number > place:
                        lost, place = lost + number - place, number
    except OSError:
        return 0
    return lost


def state_at_end(path: Path) -> str:
    """The state that the run ended in, if its last fact says so; else empty."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - _LAST_BYTES))
            last = handle.read().removesuffix(b"\n").rpartition(b"\n")[2]
    except OSError:
        return ""
    event = _event_of(last)
    return event.state if isinstance(event, RunFinished) else ""


def _event_of(line: bytes) -> Event | None:
    """The fact in one line; None when there is none that can be read."""
    said = _said(line)
    try:
        return event_from_json({key: value for key, value in said.items() if key not in _OURS}) if said else None
    except (ValueError, AttributeError, RecursionError):
        return None


def _said(line: bytes) -> dict[str, Any] | None:
    """What one line holds; None when it is not what was written, or no object."""
    try:
        said = json.loads(line) if is_line_whole(line) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or (_NUMBER in said and CRC not in said):
        return None
    return said
