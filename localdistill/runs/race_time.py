"""A race that is to end by some time: as many seeds as fit, each measured before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from localdistill.core.durations import duration_text
from localdistill.core.events import ArtifactWritten, Event, Noted, Warned
from localdistill.core.stages import RACE, Leg


class FreshSeeds:
    """Which seeds were trained here from their start. Of one that was there already, even in part, as in a race that
    is resumed, the time it took says nothing of what another one takes."""

    def __init__(self) -> None:
        self._reused: dict[int, bool] = {}

    def take(self, event: ArtifactWritten) -> None:
        """An artifact is there."""
        if event.artifact_kind == "adapter" and event.seed is not None:
            self._reused[event.seed] = self._reused.get(event.seed, False) or event.reused

    def newest_is(self) -> bool:
        """Whether the newest seed is one of them."""
        return bool(self._reused) and not self._reused[max(self._reused)]


def in_time(legs: Iterable[Leg], until: float, tell: Callable[[Event], None], go_on: str, is_fresh: Callable[[], bool],
            clock: Callable[[], float] = time.time) -> Iterator[Leg]:
    """The legs of a race, each taken once the one before has ended; those of another seed are left out, and that is
    said, when one more would not end by `until` (seconds since the epoch) if it took as long as the longest so far.
    The first seed that is not there already always runs: nothing is known before it.

    go_on: the command that runs the rest. is_fresh: whether the seed of the legs before was trained in them.
    """
    began, longest_s, is_over = clock(), 0.0, False
    for leg in legs:
        if leg.stage == RACE[0]:
            now = clock()
            if leg.seeds > 1 and is_fresh():
                longest_s = max(longest_s, now - began)
            if longest_s and not is_over:
                is_over = now + longest_s > until
                tell(_said(leg.seeds - 1, longest_s, until, now, go_on if is_over else ""))
            began = now
        if not (is_over and leg.stage in RACE):
            yield leg


def _said(seeds: int, took_s: float, until: float, now: float, go_on: str) -> Event:
    """What still fits; nothing where there is a command to go on with."""
    end, took = time.strftime("%H:%M", time.localtime(until)), duration_text(took_s)
    if go_on:
        return Warned(f"{seeds} seeds of every arm are trained: another one takes {took}, as measured, and would "
                      f"not end by {end}", go_on, stage=RACE[0])
    return Noted(f"a seed of all arms takes {took}, as measured: {(until - now) // took_s:.0f} more fit until {end}",
                 stage=RACE[0])
