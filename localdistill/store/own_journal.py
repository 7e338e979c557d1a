"""The journal of what is stored directly (prompts, imports, facts, judgements, selections, lineage): it is on disk
before it is in the database. Nobody appends outside a session: the open file keeps everybody else away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.borders import BORDERS
from localdistill.safety.closing import close_lines
from localdistill.safety.files import sync_folder
from localdistill.safety.frames import SMALL
from localdistill.safety.journal import begin_lines, encode, sizes, write_lines
from localdistill.store.lines import moment_line
from localdistill.store.places import Place, key_of, move_place, place_of, remember, tail_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class OwnJournal:
    """One journal that sessions on the store at `store` append to."""

    def __init__(self, store: Path, path: Path, level: int = SMALL) -> None:
        """level: of zstd, when a part of it is closed."""
        self.path, self._store, self._level = path, store, level
        self._key = key_of(store, path)

    def moment(self, con: DuckDBPyConnection) -> float:
        """Now, or just behind the newest line where a clock was set back: what is said later is newer."""
        place = place_of(con, self._key)
        return round(max(time.time(), place.last_at + 1e-6 if place else 0.0), 6)

    @contextmanager
    def writing(self, con: DuckDBPyConnection, at: float, lines: Sequence[bytes], moments: int = 1) -> Iterator[None]:
        """Append encoded lines that are said at the moment `at`, on disk before the block begins. The block, in a
        transaction of the caller, stores what they say, at that moment and the next microseconds, `moments` in all.
        LocalDistillError when they cannot be written."""
        if not lines:
            yield
            return
        data = b"".join([encode(moment_line(at)), *lines])
        place, before = place_of(con, self._key), sizes(self.path)
        is_continued = before == (place.closed_bytes, place.open_bytes) if place else before == (0, 0)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            began = file.tell()
            begin_lines(self.path, file)
            is_continued &= not began or file.tell() == began
            write_lines(file, self.path, data)
        if not began:
            sync_folder(self.path.parent)
        yield
        if is_continued:  # else some lines before these are not stored: a catch-up reads them, and these once more
            end = (place.read_bytes if place else 0) + len(data)
            move_place(con, self._key, Place(end, tail_of(self.path, end), place.damaged if place else 0,
                                             *sizes(self.path), at + 1e-6 * moments))

    def remember(self, con: DuckDBPyConnection) -> None:
        """Note beside the store how far it has read this journal."""
        if place := place_of(con, self._key):
            remember(self._store, {self._key: place.read_bytes})

    def close_when_large(self, con: DuckDBPyConnection) -> None:
        """Close the open part when it is large enough for that; in a session, outside a transaction."""
        if sizes(self.path)[1] >= BORDERS.open_bytes:
            self.close(con)

    def close(self, con: DuckDBPyConnection) -> None:
        """Close the open part, where the store has read all of it."""
        place = place_of(con, self._key)
        if place and sizes(self.path)[1] and sizes(self.path) == (place.closed_bytes, place.open_bytes):
            close_lines(self.path, self._level)
            move_place(con, self._key, place.with_sizes(*sizes(self.path)))
