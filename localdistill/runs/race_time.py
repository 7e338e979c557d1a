"""A race that is to end by some time: as many seeds as fit, each measured before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from localdistill.core.durations import duration_text
from localdistill.core.events import Event, Noted, Warned
from localdistill.core.stages import RACE, Leg


def in_time(legs: Iterable[Leg], until: float | None, tell: Callable[[Event], None], go_on: str,
            clock: Callable[[], float] = time.time) -> Iterator[Leg]:
    """The legs of a run, each taken once the one before has ended. Of a race those of another seed are left out, and
    that is said, when one more would not end by `until` (seconds since the epoch) if it took as long as the longest so
    far; None takes all. The first seed always runs: nothing is known before it.
    go_on: the command that runs the rest."""
    began, longest_s, is_over = clock(), 0.0, False
    for leg in legs:
        if leg.stage == RACE[0]:
            now = clock()
            if leg.seeds > 1 and not is_over:
                longest_s = max(longest_s, now - began)
                is_over = until is not None and now + longest_s > until
                if until is not None:
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
    fit = (until - now) // took_s if took_s else 0
    return Noted(f"a seed of all arms takes {took}, as measured: {fit:.0f} more fit until {end}", stage=RACE[0])
