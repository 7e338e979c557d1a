"""Spans of time for people: what was measured, and what is only estimated."""

from __future__ import annotations


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
