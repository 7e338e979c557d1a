"""Rows that are looked at page by page: row numbers are worked out once (8 bytes a row); pages are fetched by number,
kept, and their neighbours fetched ahead, so that scrolling never waits."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.store.pages import readers
from localdistill.store.session import Sessions

PAGES_KEPT = 64


class Numbered(Protocol):
    """A row that knows its number."""

    @property
    def seq(self) -> int:
        """Where it stands in the stored order."""


R = TypeVar("R", bound=Numbered)


class PagedView(Generic[R]):
    """What every view has. `load` waits for the store and belongs in a thread; `count`, `row` and `wanted` never wait.
    All may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self.complete = False
        """Every matching row was found."""
        self._path = path
        self._places = array("q")
        self._pages: OrderedDict[int, list[R | None]] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def _fetched(self, places: Sequence[int]) -> list[R]:
        """The rows at these places."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many rows were found so far."""
        return len(self._places)

    @property
    def places(self) -> array[int]:
        """The numbers of all rows that were found, in order."""
        return self._places

    def stop(self) -> None:
        """End a search that is under way."""
        self._stopped.set()

    def seq(self, index: int) -> int:
        """The number of the row at `index`, which stays when the order changes."""
        return self._places[index]

    def row(self, index: int) -> R | None:
        """The row at `index` when its page is here, else None."""
        with self._lock:
            page = self._pages.get(index // BORDERS.page_rows)
        place = index % BORDERS.page_rows
        return page[place] if page is not None and place < len(page) else None

    def wanted(self, first: int, last: int) -> int | None:
        """The page to load next for a view of the rows `first` to `last`: one that is seen, else a neighbour; None
        when all of them are here."""
        seen = range(first // BORDERS.page_rows, max(first, last) // BORDERS.page_rows + 1)
        pages = len(range(0, self.count, BORDERS.page_rows))
        with self._lock:
            for page in (*seen, seen[-1] + 1, seen[0] - 1):
                whole = min(BORDERS.page_rows, len(self._places) - page * BORDERS.page_rows)
                if 0 <= page < pages and len(self._pages.get(page, ())) < whole:
                    return int(page)
        return None

    def load(self, page: int) -> None:
        """Fetch a page and keep it; pages not looked at for long are forgotten."""
        places = self._places[page * BORDERS.page_rows : (page + 1) * BORDERS.page_rows]
        found = {row.seq: row for row in self._fetched(places)}
        with self._lock:
            self._pages[page] = [found.get(seq) for seq in places]
            self._pages.move_to_end(page)
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)

    def refresh(self, index: int) -> None:
        """Fetch anew what is known of the row at `index`, and of those of its page."""
        self.load(index // BORDERS.page_rows)

    def page(self, start: int, count: int) -> list[R]:
        """The rows from `start` on, at most `count`; waits for those that are not here."""
        end = min(start + count, self.count)
        while (missing := self._missing(start, end)) is not None:
            self.load(missing)
        return [row for index in range(start, end) if (row := self.row(index)) is not None]

    def _missing(self, start: int, end: int) -> int | None:
        with self._lock:
            return next((page for page in range(start // BORDERS.page_rows, -(-end // BORDERS.page_rows))
                         if end > start and page not in self._pages), None)

    @cached_property
    def _reading(self) -> Sessions:
        return readers(self._path)
