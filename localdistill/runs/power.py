"""Whether this machine runs on its battery, and what a run does about it when it was asked to wait for mains power.
Must not import a model library."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from localdistill.modelfiles.apple import is_apple_silicon, said_by

OnBattery = Literal["go", "pause"]
PMSET = "/usr/bin/pmset"
LOOK_EVERY_S = 10.0
"""How often what powers the machine is looked at: on a Mac that starts a small program."""
SLEPT_S = 60.0
"""A wall clock that ran on so much further than the clock of work means that the machine slept."""
_ASK_S = 5.0


def _run(command: Sequence[str]) -> str:
    return said_by(command, _ASK_S)


def on_battery(run: Callable[[Sequence[str]], str] = _run) -> bool | None:
    """Whether no mains power comes in; None where the machine does not say, as one without a battery."""
    if is_apple_silicon():
        said = run([PMSET, "-g", "batt"]).partition("\n")[0]
        return None if "Power'" not in said else "'AC Power'" not in said
    import psutil

    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, NotImplementedError, ValueError):
        return None
    plugged = None if battery is None else battery.power_plugged
    return None if plugged is None else not plugged


class Power:
    """What a run knows of the machine's power while it works."""

    def __init__(self, mode: OnBattery, look: Callable[[], bool | None] = on_battery,
                 clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        """look: see `on_battery`."""
        self.mode = mode
        self._look, self._clock, self._wall = look, clock, wall
        self._looked_at = -LOOK_EVERY_S + clock()
        self._is_low: bool | None = None
        self._before = clock(), wall()

    @property
    def is_unknown(self) -> bool:
        """A pause was asked for, and the machine does not say what powers it."""
        return self.mode == "pause" and self._is_low is None

    def must_wait(self) -> bool:
        """Whether work is to stand still now."""
        if self.mode == "pause" and self._clock() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = self._clock()
            self._is_low = self._look()
        return self.mode == "pause" and bool(self._is_low)

    def slept_s(self) -> float:
        """Seconds that the machine slept since this was asked last; 0 where it did not. Clocks of work stand still
        meanwhile, the wall clock does not."""
        now = self._clock(), self._wall()
        gone = (now[1] - self._before[1]) - (now[0] - self._before[0])
        self._before = now
        return gone if gone >= SLEPT_S else 0.0
