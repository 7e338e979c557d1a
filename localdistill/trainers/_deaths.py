"""Trainings that the system ended: a process that takes too much memory is killed without a word. What it leaves in its
folder tells the next one to begin one rung lower. Must not know a library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.safety.files import atomic_write_text
from localdistill.trainers._checkpoints import newest_name

_FILE = "running.json"
_END_OTHERS = "end other programs and resume; else use a smaller student or shorter rows"
_FEWER_BITS = ", or fewer bits (quantization)"


def needs_less(quantization: str) -> str:
    """What to do where memory is not enough for a base that is held so; never what is on already."""
    return _END_OTHERS + (_FEWER_BITS if quantization == "none" else "")


@dataclass(frozen=True)
class _Left:
    """What a training that runs says of itself, for the one after its death."""

    place: str = ""
    """The newest checkpoint that it began from."""
    deaths: int = 0
    """Trainings that died there before it, for reasons that nobody knows."""
    rungs: int = 0
    is_loaded: bool = False


class Running:
    """A training that runs: it began `rungs` lower than the first one here did."""

    def __init__(self, file: Path, left: _Left) -> None:
        self._file, self._left = file, left
        atomic_write_text(file, json.dumps(asdict(left)))

    @property
    def rungs(self) -> int:
        """How often memory is to give way before the first step."""
        return self._left.rungs

    def loaded(self) -> None:
        """The student is in memory: from here on there is something that can give way."""
        self._left = replace(self._left, is_loaded=True)
        atomic_write_text(self._file, json.dumps(asdict(self._left)))


@contextmanager
def lower_after_deaths(output: Path, for_memory: bool) -> Iterator[Running]:
    """The training in the folder `output`, told how many rungs lower it begins, by what died there so far. A death is a
    training that left this neither by its end nor by an error.

    for_memory: the last one died for want of memory, most likely; else the first death at a place may have been
    anything, and the second counts. LocalDistillError when the student itself did not fit.
    """
    file = output / _FILE
    before, place = _read(file), newest_name(output / "checkpoints")
    left = _Left(place)
    if before is not None:
        if for_memory and not before.is_loaded:
            file.unlink(missing_ok=True)
            raise LocalDistillError("the student does not fit into memory: the process that loaded it was ended by the "
                                    "system", f"{_END_OTHERS}{_FEWER_BITS}, where it is not on")
        deaths = before.deaths + 1 if before.place == place else 1
        lower = for_memory or deaths > 1
        left = _Left(place, 0 if lower else deaths, before.rungs + lower)
    output.mkdir(parents=True, exist_ok=True)
    try:
        yield Running(file, left)
    finally:
        file.unlink(missing_ok=True)


def _read(file: Path) -> _Left | None:
    """What the last one left; None where nothing died. What cannot be read was a death, and no more is known of it."""
    try:
        said = json.loads(file.read_text())
        return _Left(str(said["place"]), int(said["deaths"]), int(said["rungs"]), bool(said["is_loaded"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return _Left(is_loaded=True)
