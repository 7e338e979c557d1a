"""Trainings that the system ended: where memory is shared and limits are none, a process that takes too much is
killed without a word. One that died twice without getting further is begun again with smaller micro-batches. Must not
import mlx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localdistill.core.events import Emit, Warned
from localdistill.safety.files import atomic_write_text

_FILE = "running.json"


@contextmanager
def halvings_after_deaths(output: Path, emit: Emit) -> Iterator[int]:
    """How often micro-batches are to be halved, by what died in the folder `output` so far. A death is a training that
    left this neither by its end nor by an error; the first one at a place may have been anything."""
    file = output / _FILE
    place, before = _newest(output), _read(file)
    halvings, deaths = int(before.get("halvings", 0)), 0
    if before:
        deaths = int(before.get("deaths", 0)) + 1 if before.get("place") == place else 1
        if deaths > 1:
            halvings, deaths = halvings + 1, 0
            emit(Warned("the training was ended twice at the same place, most likely for want of memory: micro-batches "
                        "are halved, each step stays the same", "end other programs, or take quantization = \"4bit\""))
    output.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, json.dumps({"place": place, "deaths": deaths, "halvings": halvings}))
    try:
        yield halvings
    finally:
        file.unlink(missing_ok=True)


def _newest(output: Path) -> str:
    return max((path.name for path in (output / "checkpoints").glob("step-*") if path.suffix != ".partial"), default="")


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
