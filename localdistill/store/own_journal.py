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
from localdistill.safety.frames import SMALL, ClosedEnd
from localdistill.safety.journal import begin_lines, sizes, write_lines
from localdistill.safety.record_lines import encode
from localdistill.store.lines import moment_line
from localdistill.store.places import Place, key_of, move_place, place_of, remember, tail_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class OwnJournal:
    """One journal that sessions on the store at `store` append to. In each of them `moment` comes first,
    within `session`."""

    def __init__(self, store: Path, path: Path, level: int = SMALL) -> None:
        """level: of zstd, when a part of it is closed."""
        self.path, self._store, self._level = path, store, level
        self._key = key_of(store, path)
        self._place: Place | None = None
        """How far the store has read it, in the session that is open."""
        self._closed: ClosedEnd | None = None
        """What its closed part held when this object closed it last."""

    def moment(self, con: DuckDBPyConnection) -> float:
        """Now, or just behind the newest line where a clock was set back: what is said later is newer."""
        self._place = place_of(con, self._key)
        return round(max(time.time(), self._place.last_at + 1e-6 if self._place else 0.0), 6)

    @contextmanager
    def writing(self, con: DuckDBPyConnection, at: float, lines: Sequence[bytes], moments: int = 1) -> Iterator[None]:
        """Append encoded lines that are said at the moment `at`, on disk before the block begins. The block, in a
        transaction of the caller, stores what they say, at that moment and the next microseconds, `moments` in all.
        LocalDistillError when they cannot be written."""
        if not lines:
            yield
            return
        data = b"".join([encode(moment_line(at)), *lines])
        place, before = self._place, sizes(self.path)
        is_continued = before == (place.closed_bytes, place.open_bytes) if place else before == (0, 0)
        end = place.read_bytes if place else 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            began = file.tell()
            begin_lines(self.path, file, end if is_continued else None)
            is_continued &= not began or file.tell() == began
            write_lines(file, self.path, data)
        if not began:
            sync_folder(self.path.parent)
        yield
        if is_continued:  # else some lines before these are not stored: a catch-up reads them, and these once more
            end += len(data)
            if sizes(self.path)[1] >= BORDERS.open_bytes:
                self._closed = close_lines(self.path, self._level, self._closed)
            self._place = Place(end, tail_of(self.path, end, data), place.damaged if place else 0, *sizes(self.path),
                                at + 1e-6 * moments)
            move_place(con, self._key, self._place)

    @contextmanager
    def session(self) -> Iterator[None]:
        """A session, at whose end is noted beside the store how far it has read this journal."""
        self._place = None
        yield
        if self._place:
            remember(self._store, {self._key: self._place.read_bytes})

    def close(self, con: DuckDBPyConnection) -> None:
        """Close the open part, where the store has read all of it."""
        place = place_of(con, self._key)
        if place and sizes(self.path)[1] and sizes(self.path) == (place.closed_bytes, place.open_bytes):
            self._closed = close_lines(self.path, self._level, self._closed)
            move_place(con, self._key, place.with_sizes(*sizes(self.path)))
