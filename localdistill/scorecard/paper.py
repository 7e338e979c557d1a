"""Tables, lines and figures of everything in this room that is printed: plain text of at most 100 columns, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

WIDTH = 100
NAME_WIDTH = 24
"""A first column is cut there."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in columns, all but the first to the right."""
    short = [(cut(row[0], NAME_WIDTH), *row[1:]) for row in rows]
    widths = [max(len(row[column]) for row in [head, *short]) for column in range(len(head))]
    return ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in [head, *short]]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The same in Markdown."""
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]


def wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    """A paragraph, indented as said."""
    return wrap(text, WIDTH, initial_indent=first, subsequent_indent=later)


def cut(text: str, width: int) -> str:
    """At most so many characters."""
    return text if len(text) <= width else text[:width - 1] + "…"


def percent(share: float) -> str:
    """A share of 0..1."""
    return f"{share * 100:.1f}%"


def points(difference: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{difference * 100:.1f}"


def signed(difference: float) -> str:
    """The same with its sign."""
    return f"{difference * 100:+.1f}"


def p_text(value: float) -> str:
    """A p value."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
