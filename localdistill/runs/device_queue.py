"""Who works on which device of this machine, and who waits for it: a queue of tickets in a folder of the user's, one
folder per device, one ticket per user of it. A ticket counts as long as the process that took it holds its file (a lock
of the system's), so whoever dies is out of the queue. Must not know runs.

The rule: two trainings never share a device; on a GPU, whose memory models fill, whatever else computes waits its turn
too; on the CPU that goes on beside a training, and is told. A chat never waits."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from localdistill.safety.files import is_locked

STATE_ENV = "LOCALDISTILL_STATE"
CPU = "CPU"
TRAINING, WHOLE_RUN, CHAT = "training", "run", "chat"
TRAINS = frozenset({TRAINING, WHOLE_RUN})
_LOCK, _TICKET = "lock", re.compile(r"\d{12}\.json")


@dataclass(frozen=True)
class DeviceUse:
    """One user of a device."""

    device: str
    """`CPU`, or the name of a GPU."""
    what: str
    """`training`, `run` (one that was put into the queue, from its first stage on), `evaluation`, `export`, `answers`
    or `chat`."""
    who: str
    """The run, or the command."""
    where: str
    """Folder of its workspace."""
    pid: int
    since: float
    """When it came, seconds since the epoch."""
    takes_turns: bool
    """It waits for those before it that do, and those after it wait for it."""

    @property
    def told(self) -> str:
        """In words."""
        of = f" of {self.who}" if self.who else ""
        return f"the {self.what}{of} on {self.device}"


def takes_turns(device: str, what: str) -> bool:
    """Whether this kind of work has the device for itself, among those of which that is said."""
    return what in (TRAINING, WHOLE_RUN) or (device != CPU and what != CHAT)


def state_folder() -> Path:
    """The user's folder for what programs that run say of themselves: `$LOCALDISTILL_STATE`, else the system's."""
    if named := os.environ.get(STATE_ENV):
        return Path(named)
    import platformdirs

    return platformdirs.user_state_path("localdistill")


class Ticket:
    """A place in the queue of a device, held until `leave`."""

    def __init__(self, use: DeviceUse, path: Path, held: IO[bytes]) -> None:
        self.use, self._path, self._held = use, path, held

    def ahead(self) -> DeviceUse | None:
        """Whom it waits for, the one right before it; None where it is its turn."""
        before = [use for path, use in _living(self._path.parent) if path.name < self._path.name and use.takes_turns]
        return before[-1] if self.use.takes_turns and before else None

    def beside(self) -> list[DeviceUse]:
        """Who else works there now and does not wait for it, nor it for them."""
        return [use for path, use in _living(self._path.parent)
                if path != self._path and not (use.takes_turns and (self.use.takes_turns or _waits(path)))]

    def slowed_by(self) -> list[str]:
        """What is to be said of trainings beside it, and, where it trains, of whoever else is."""
        return [f"{other.told} is under way too: both are slower, and share the memory"
                for other in self.beside() if TRAINS & {self.use.what, other.what}]

    def leave(self) -> None:
        """Give the place up. Harmless to call twice."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._held.close()


def take_ticket(device: str, what: str, who: str, where: str = "") -> Ticket:
    """A place at the end of the queue of `device`. OSError where the user's folder cannot be written."""
    use = DeviceUse(device, what, who, where, os.getpid(), time.time(), takes_turns(device, what))
    folder = state_folder() / "devices" / (re.sub(r"\W+", "-", device).strip("-") or "device")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for path in _tickets(folder):
            if not is_locked(path):
                path.unlink(missing_ok=True)
        number = 1 + max((int(path.stem) for path in _tickets(folder)), default=0)
        path = folder / f"{number:012d}.json"
        held = open(path, "xb", buffering=0)  # noqa: SIM115 - it is held as long as the ticket
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(json.dumps(asdict(use)).encode())
    return Ticket(use, path, held)


@contextlib.contextmanager
def using(device: str, what: str, who: str, where: str = "") -> Iterator[Ticket | None]:
    """A ticket for the length of the block; none where the user's folder cannot be written: nobody is told then."""
    try:
        ticket = take_ticket(device, what, who, where)
    except OSError:
        yield None
        return
    try:
        yield ticket
    finally:
        ticket.leave()


@dataclass(frozen=True)
class QueuedUse:
    """One line of the queue."""

    use: DeviceUse
    waits: bool
    """Others are before it."""


def device_queue() -> list[QueuedUse]:
    """All devices: who works, then who waits, in their order."""
    found = []
    for folder in sorted(path for path in (state_folder() / "devices").glob("*") if path.is_dir()):
        found += [QueuedUse(use, use.takes_turns and _waits(path)) for path, use in _living(folder)]
    return found


def _waits(path: Path) -> bool:
    """Whether somebody who takes turns came before this ticket."""
    return any(other.name < path.name and use.takes_turns for other, use in _living(path.parent))


def _living(folder: Path) -> list[tuple[Path, DeviceUse]]:
    """The tickets of one device that somebody holds, in their order. One that is just being written is passed over: it
    comes after all who look."""
    found = []
    for path in _tickets(folder):
        if is_locked(path):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append((path, DeviceUse(**json.loads(path.read_bytes()))))
    return found


def _tickets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if _TICKET.fullmatch(path.name))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / _LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
