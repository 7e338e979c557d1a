"""Spans of time for people: what was measured, and what is only estimated."""

from __future__ import annotations

from datetime import datetime, timedelta

from localdistill.core.errors import UsageError


def duration_text(seconds: float) -> str:
    """A measured one: `4.2 s`, `3 min 07 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def estimate_text(seconds: float) -> str:
    """An estimated one, which does not pretend to seconds: `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock_time(text: str, now: datetime | None = None) -> float:
    """The time that `07:00` (the next one) or `2026-12-01 07:00` means, in seconds since the epoch. UsageError for
    another form, and for a time that is past."""
    now = now or datetime.now()
    try:
        if len(text) <= 5:
            of_day = datetime.strptime(text, "%H:%M").time()
            found = datetime.combine(now.date(), of_day)
            return (found if found > now else found + timedelta(days=1)).timestamp()
        found = datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise UsageError(f"'{text}' is no time of day", "for example 07:00, or 2026-12-01 07:00") from None
    if found <= now:
        raise UsageError(f"{text} is past", "for example 07:00, which is the next one")
    return found.timestamp()
