"""How the command line speaks: data on stdout, talk on stderr, errors with a hint, JSON on demand. Text that models
wrote passes `display_safe` before a terminal sees it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from localdistill import LocalDistillError


def safe(text: str) -> str:
    """Text that may reach a terminal."""
    from localdistill import display_safe

    return display_safe(text)


def data(text: str) -> None:
    """One line of data."""
    sys.stdout.write(text + "\n")


def data_json(value: Any) -> None:
    """One JSON value as data."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def talk(text: str) -> None:
    """A sentence for the person in front of the terminal."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(error: LocalDistillError, as_json: bool = False) -> NoReturn:
    """Say what happened and what to do next, and leave with the error's code."""
    if as_json:
        data_json({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
    talk(f"error: {safe(error.message)}")
    if error.hint:
        talk(f"  try: {safe(error.hint)}")
    sys.stdout.flush()
    raise SystemExit(error.exit_code)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows in aligned columns; numbers right, text left; the last column is not padded."""
    body = [[safe(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    raw = [list(head), *body]
    widths = [max(len(row[i]) for row in raw) for i in range(len(head))]
    for row in raw:
        data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def bold(text: str) -> str:
    """Bold on a terminal with colour, plain elsewhere."""
    return f"\x1b[1m{text}\x1b[0m" if styled() else text


def styled() -> bool:
    """True when stderr is a terminal that wants colour."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def size(size_bytes: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000 or unit == "GB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def counts(values: Mapping[str, Any]) -> str:
    """`name value, name value`."""
    return ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in values.items()
    )


def somebody_is_here() -> bool:
    """True when a person can be asked."""
    return sys.stdin.isatty()
