"""Where the store cuts long work into parts: how many ids one lookup takes, how many rows a window or a write. Every
such border is a field of `BORDERS` and is read where it is used, so that tests can set all of them to 2 at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Borders:
    """The sizes of parts."""

    first_rows: int = 1024
    """Rows of the first window of a sweep; the next ones grow or shrink with the time that one takes."""
    fewest_rows: int = 64
    most_rows: int = 65_536
    span_rows: int = 2048
    """Rows that are decoded together; ids nearer than this are fetched with one query."""
    chunk_ids: int = 4096
    """Ids whose records are handed on together."""
    lookup_ids: int = 50_000
    """Ids that one query looks for."""
    batch_rows: int = 1000
    """Rows that one session writes."""
    batch_bytes: int = 4 << 20
    """Text that one session writes, about."""
    list_rows: int = 50_000
    """Rows of a selection or of a dataset's lineage that one session reads or writes."""


BORDERS = Borders()
