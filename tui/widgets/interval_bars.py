"""Scores with their intervals as bars, and differences with theirs around zero. Pure functions from numbers to one line
of text each; nothing here knows a score card."""

from __future__ import annotations

_DOT, _LEFT, _RIGHT, _ZERO = "●", "├", "┤", "│"


def score_bar(value: float, low: float, high: float, most: float, width: int) -> str:
    """`████├──●──┤`: filled up to the interval, the interval around the value; `most` is the value at the right end."""
    if width < 4 or not most > 0:
        return ""
    first, at, last = (_cell(v, 0.0, most, width) for v in (low, value, high))
    cells = ["█"] * first + [" "] * (width - first)
    _interval(cells, first, at, last)
    return "".join(cells)


def difference_bar(value: float, low: float, high: float, least: float, most: float, width: int) -> str:
    """`  │ ├─●──┤`: an interval on a line from `least` to `most`, with zero marked."""
    if width < 4 or not most > least:
        return ""
    cells = [" "] * width
    _interval(cells, *(_cell(v, least, most, width) for v in (low, value, high)))
    if least <= 0 <= most:
        zero = _cell(0.0, least, most, width)
        cells[zero] = {" ": _ZERO, "─": "┼"}.get(cells[zero], cells[zero])
    return "".join(cells)


def scale_of(highs: list[float]) -> float:
    """The right end of a scale of shares: the next tenth above the highest, at most 1."""
    most = max(highs, default=1.0)
    return next((tenth / 10 for tenth in range(1, 10) if most <= tenth / 10 + 1e-9), 1.0)


def _cell(value: float, least: float, most: float, width: int) -> int:
    share = (value - least) / (most - least)
    return max(0, min(width - 1, round(share * (width - 1))))


def _interval(cells: list[str], first: int, at: int, last: int) -> None:
    for place in range(first, last + 1):
        cells[place] = "─"
    cells[first], cells[last] = _LEFT, _RIGHT
    cells[at] = _DOT
