"""When to ask again and how long to wait: capped exponential backoff with jitter, and what `Retry-After` says."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRIED = frozenset({408, 409, 425, 429})
LONGEST_BACKOFF_S = 30.0


def is_retried(status: int) -> bool:
    """True for statuses that may pass by themselves."""
    return status in RETRIED or status >= 500


def backoff_s(attempt: int, first_s: float) -> float:
    """Seconds before retry number `attempt` (from 0): doubles up to 30 s, then anything from half of it to all."""
    return min(LONGEST_BACKOFF_S, first_s * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date). None when it
    does not say, or says something unreadable or negative."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("Retry-After")
    try:
        if milliseconds is not None:
            return _sane(float(milliseconds) / 1000)
        if value is None:
            return None
        return _sane(float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds < float("inf") else None
