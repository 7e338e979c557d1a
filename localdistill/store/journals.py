"""Taking in what journals hold and the store does not: the normal way of replies into the store, what heals it after
its newest rows were lost, and what makes it again when all of it is.

Where several journals hold something new it is read in the order in which it was said, so that a store which is made
again comes out as it was.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.explaining import reason_of
from localdistill.safety import journal
from localdistill.safety.frames import Reading
from localdistill.store.lines import DAMAGED, Line, Part, PartStored
from localdistill.store.places import (
    Place,
    key_of,
    move_place,
    place_of,
    places,
    remember,
    remembered,
    start_of,
    tail_of,
)
from localdistill.store.session import Sessions, transaction
from localdistill.store.writing import Said, subjects_of, upsert_facts

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEPT = "journals/"
"""How the keys of journals begin whose place nobody else's takes: what such a one held stays in it. The folder of a
run may be removed and another run get its name."""
FIRST = "-before.jsonl"
"""Ending of the journal of what was stored before there were journals of everything: it is read before others."""


@dataclass(frozen=True)
class CatchUp:
    """What a catch-up did."""

    rows: int = 0
    """New traces taken in."""
    healed: int = 0
    """Those among them that the store held before and had lost."""
    damaged: int = 0
    """Journal lines that cannot be read; they stay in the journal."""
    unread: tuple[str, ...] = ()
    """Journals that could not be opened or read to their end, each with the reason."""
    healed_others: int = 0
    """Other lines (prompts, facts, judgements, replies to members, selections) that the store had lost."""
    set_aside: tuple[Path, ...] = ()
    """Write-ahead logs that could not be read."""


@dataclass(frozen=True)
class Lack:
    """Why a journal may hold replies that are not in the store."""

    path: Path
    untaken: int
    """Lines that were not taken in."""
    damaged: int
    """Lines that were read and are damaged, and at least one where some that were read are gone."""
    error: str
    """Why it cannot be read; empty when it can."""
    gone: str = ""
    """What is gone from its end; empty when nothing is."""

    def __str__(self) -> str:
        if self.error:
            return f"its journal cannot be read ({self.error})"
        if self.gone:
            return f"its journal {self.gone}"
        if self.untaken:
            return f"{self.untaken:,} lines of its journal are not in the store"
        return f"{self.damaged:,} lines of its journal are damaged or gone"


@dataclass(slots=True)
class _Said:
    """One line of a journal."""

    order: float
    """What is read first of several journals."""
    key: str
    line: Line
    end: int
    """Offset behind it."""
    said_at: float | None


@dataclass
class _Source:
    """A journal that is being taken in."""

    path: Path
    key: str
    place: Place | None
    """Where the store has read it to."""
    sizes: tuple[int, int]
    reading: Reading = field(default_factory=Reading)
    said_at: float = 0.0
    """When the newest line so far was said; 0 where none says it, as in journals of older versions."""
    counted: int = 0
    """Damaged lines that are stored."""

    def lines(self) -> Iterator[_Said]:
        """What is new. In a file the order of lines counts: none is older than the one before it."""
        start = start_of(self.place, self.path)
        if not start and self.place is not None:
            self.place = replace(self.place, damaged=0)
            self.reading.damaged_lines += self.key.startswith(KEPT) and self.place.read_bytes > 0
        self.said_at = self.place.last_at if self.place and start else 0.0
        is_first = self.path.name.endswith(FIRST)
        for line, end in journal.read(self.path, start, self.reading):
            at = line.get("at")
            if isinstance(at, float) and math.isfinite(at):
                self.said_at = at if is_first else max(self.said_at, at)
            yield _Said(-1.0 if is_first else self.said_at, self.key, line, end, self.said_at or None)

    def after(self, end: int, closed: bool) -> Place:
        """The place at `end`; where all of it was read, with the sizes that it has."""
        damaged = (self.place.damaged if self.place else 0) + self.reading.damaged_lines - self.counted
        sizes = self.sizes if closed else (-1, -1)
        return Place(end, tail_of(self.path, end), damaged, *sizes, self.said_at)


def catch_up(sessions: Sessions, journals: Iterable[Path], tick: Callable[[int], None] = lambda lines: None) -> CatchUp:
    """Take in the rest of every journal that is longer than the store knows, or that is another file than it was.
    Looks at nothing but the sizes of the others. tick: told now and then how many lines were taken in; it may raise."""
    paths, sums, unread = list(dict.fromkeys(journals)), Counter[str](), dict[Path, str]()
    while sources := _grown(sessions, paths, unread):
        if _take_in(sessions, sources, sums, unread, tick):
            break
    return CatchUp(sums["rows"], sums["healed"], sums["damaged"], tuple(f"{p}: {why}" for p, why in unread.items()),
                   sums["healed_others"])


def _grown(sessions: Sessions, paths: Sequence[Path], unread: dict[Path, str]) -> list[_Source]:
    """The journals that are not as the store has read them."""
    found: dict[Path, tuple[int, int]] = {}
    for path in paths:
        if path not in unread:
            try:
                found[path] = journal.sizes(path)
            except OSError as error:
                unread[path] = str(error.strerror)
    known = sessions.run(places) if any(map(any, found.values())) else {}
    sources = [_Source(path, key, known.get(key), sizes) for path, sizes in found.items()
               for key in [key_of(sessions.path, path)]]
    return [one for one in sources if any(one.sizes) and not _is_read(one.place, one.sizes)]


def _is_read(place: Place | None, sizes: tuple[int, int]) -> bool:
    if place is None:
        return False
    noted = (place.closed_bytes, place.open_bytes)
    return noted == sizes if noted != (-1, -1) else sizes == (0, place.read_bytes)


def lacking(sessions: Sessions, journals: Iterable[Path]) -> list[Lack]:
    """What the journals hold and the store does not. Reads only those that are longer than the store knows."""
    known, found = sessions.run(places) if sessions.path.exists() else {}, []
    for path in journals:
        place, reading, untaken, error, gone = known.get(key_of(sessions.path, path)), Reading(), 0, "", ""
        try:
            if any(sizes := journal.sizes(path)) and not _is_read(place, sizes):
                untaken = sum(1 for _ in journal.read(path, start_of(place, path), reading)) + reading.damaged_lines
            gone = journal.lost_end(path)
        except OSError as problem:
            error = problem.strerror or str(problem)
        if untaken or error or gone or (place and place.damaged):
            found.append(Lack(path, untaken, place.damaged if place else 0, error, gone))
    return found


def lost_in(sessions: Sessions) -> dict[str, str]:
    """The journals of the workspace, by their paths below it, that do not hold what the store has read in them, each
    with what is wrong in words to stand behind its name. Reads the end of each."""
    if not sessions.path.exists():
        return {}
    found = {}
    for key, place in sessions.run(places).items():
        path = sessions.path.parent / key
        if key.startswith(KEPT) and place.read_bytes:
            try:
                if not any(journal.sizes(path)):
                    found[key] = "is gone"
                elif not start_of(place, path):
                    found[key] = "does not hold what the store has read in it"
                elif place.damaged:
                    found[key] = f"has {place.damaged:,} lines that are damaged or gone"
            except OSError as error:
                found[key] = f"cannot be read: {reason_of(error)}"
    return found


def _take_in(sessions: Sessions, sources: Sequence[_Source], sums: Counter[str], unread: dict[Path, str],
             tick: Callable[[int], None]) -> bool:
    """Store what is new in some journals. False where another process takes it in meanwhile: then one must look
    again."""
    by_key, before, unplaced = {one.key: one for one in sources}, remembered(sessions.path), list[Said]()
    with closing(_parts(sources, unread)) as parts:
        for part, ends, closed in parts:
            moves = {key: (by_key[key].place, by_key[key].after(end, closed)) for key, end in ends.items()}
            stored = sessions.run(partial(_store, store=sessions.path, part=part.rows, moves=moves))
            if stored is None:
                return False
            for key, (_, place) in moves.items():
                source = by_key[key]
                sums["damaged"] += source.reading.damaged_lines - source.counted
                source.place, source.counted = place, source.reading.damaged_lines
            unplaced += stored.unplaced
            sums["lines"] += len(part.traces) + len(part.others)
            tick(sums["lines"])
            new = set(stored.traces)
            sums["rows"] += len(new)
            sums["healed"] += sum(end <= before.get(key, 0) for i, (key, end) in part.traces.items() if i in new)
            sums["healed_others"] += sum(end <= before.get(key, 0) for key, end in part.others)
    if unplaced:  # said before what they are about, by a clock that was set back
        sessions.run(partial(_place_facts, facts=unplaced))
    return True


@dataclass
class _Read:
    """A part of what is new, and where its lines stand."""

    rows: Part = field(default_factory=Part)
    traces: dict[str, tuple[str, int]] = field(default_factory=dict)
    others: list[tuple[str, int]] = field(default_factory=list)


def _parts(sources: Sequence[_Source], unread: dict[Path, str]) -> Generator[tuple[_Read, dict[str, int], bool]]:
    """All lines in the order in which they were said, in parts that one session can write, each with how far it reads
    every journal that it reads; the last part ends them all."""
    by_key, part, ends = {one.key: one for one in sources}, _Read(), dict[str, int]()
    for said in heapq.merge(*(_lines(one, unread) for one in sources), key=attrgetter("order")):
        ends[said.key] = said.end
        try:
            trace = part.rows.take(said.line, said.said_at)
        except DAMAGED:
            by_key[said.key].reading.damaged_lines += 1
            continue
        if trace:
            part.traces[trace] = (said.key, said.end)
        elif said.line.get("kind") != "moment":
            part.others.append((said.key, said.end))
        if part.rows.is_full:
            yield part, ends, False
            part, ends = _Read(), {}
    yield part, {one.key: one.reading.end for one in sources if one.path not in unread}, True


def _lines(source: _Source, unread: dict[Path, str]) -> Iterator[_Said]:
    try:
        yield from source.lines()
    except OSError as error:
        unread[source.path] = str(error.strerror)


def _store(con: DuckDBPyConnection, store: Path, part: Part,
           moves: Mapping[str, tuple[Place | None, Place]]) -> PartStored | None:
    """Store a part and the places behind it. Stores nothing and returns None when a journal was read to another place
    since that was looked up."""
    for key, (before, _) in moves.items():
        if _where(place_of(con, key)) != _where(before):
            return None
    with transaction(con):
        stored = part.store(con)
        for key, (_, after) in moves.items():
            move_place(con, key, after)
    remember(store, {key: after.read_bytes for key, (_, after) in moves.items()})
    return stored


def _where(place: Place | None) -> tuple[int, str]:
    return (place.read_bytes, place.tail) if place else (0, "")


def _place_facts(con: DuckDBPyConnection, facts: list[Said]) -> None:
    with transaction(con):
        upsert_facts(con, facts, subjects_of(con, (fact for fact, _ in facts)), keep_newer=True)
