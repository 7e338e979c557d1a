"""Looking at stored traces: a view over any number of them that scrolls without waiting, and one trace with everything
that is known of it. A view resolves its ordered row numbers once (8 bytes a trace); pages are fetched by number, kept,
and their neighbours fetched ahead. It does not notice what is stored later: a new view does."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.store import Store
from localdistill.store.pages import (
    ORDERS,
    ShortRow,
    TraceDetail,
    check_order,
    detail_at,
    place_of,
    readers,
    selected_places,
    short_rows,
    sorted_places,
    stored_places,
)
from localdistill.store.session import Sessions
from localdistill.store.view import listed
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import Missing, missing_in, open_store

TraceRow = ShortRow
TRACE_ORDERS = tuple(ORDERS)
PAGES_KEPT = 64


class Browser:
    """The traces of a store that meet the SQL condition `where` (worked out in a child, as `Store.listing` does) and
    hold the text `search`, in one of `TRACE_ORDERS`; with `selection`, only those of the saved selection.

    `resolve` and `load` wait for the store and belong in a thread; `count`, `row` and `wanted` never wait. All may be
    called from several threads. UsageError for a condition or order that cannot be used; StoreLocked and StoreError as
    for every reading.
    """

    def __init__(self, store: Store, where: str = "", search: str = "", order: str = "stored",
                 selection: str = "") -> None:
        check_order(order)
        self.where, self.search, self.order, self.selection = where, search, order, selection
        self.complete = False
        """Every matching trace was found."""
        self.missing: tuple[Missing, ...] = ()
        """What the store should hold and does not, and what brings it back."""
        self._store = store
        self._places = array("q")
        self._pages: OrderedDict[int, list[TraceRow | None]] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def count(self) -> int:
        """How many traces were found so far."""
        return len(self._places)

    def stop(self) -> None:
        """End a search that is under way."""
        self._stopped.set()

    def resolve(self, grew: Callable[[], None] = lambda: None) -> None:
        """Find the traces. With the order `stored` those found first can be looked at while others are searched;
        `grew` is called now and then, and when all were found."""
        if self._store.path.exists():
            chosen = self._chosen()
            if self.order == "stored":
                for piece in self._found(chosen):
                    self._places.extend(piece)
                    grew()
            elif self.where or self.search or chosen is not None:
                found = array("q")
                for piece in self._found(chosen):
                    found.extend(piece)
                self._places = sorted_places(self._reading, self.order, found)
            else:
                self._places = sorted_places(self._reading, self.order)
        self.complete = not self._stopped.is_set()
        grew()

    def _chosen(self) -> array[int] | None:
        """The places of the selection's traces."""
        if not self.selection:
            return None
        return selected_places(self._reading, self._store.selection(self.selection).trace_ids)

    def _found(self, chosen: array[int] | None) -> Iterator[array[int]]:
        if chosen is not None and not (self.where or self.search):
            yield chosen
            return
        among = set(chosen) if chosen is not None else None
        for piece in stored_places(self._reading, self.where, self.search):
            if self._stopped.is_set():
                return
            yield piece if among is None else array("q", (seq for seq in piece if seq in among))

    @property
    def places(self) -> array[int]:
        """The numbers of all traces that were found, in order."""
        return self._places

    def seq(self, index: int) -> int:
        """The number of the trace at `index`, which stays when the order changes."""
        return self._places[index]

    def row(self, index: int) -> TraceRow | None:
        """The trace at `index` when its page is here, else None."""
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
        found = {row.seq: row for row in short_rows(self._reading, places)}
        with self._lock:
            self._pages[page] = [found.get(seq) for seq in places]
            self._pages.move_to_end(page)
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)

    def page(self, start: int, count: int) -> list[TraceRow]:
        """The rows from `start` on, at most `count`; waits for those that are not here."""
        end = min(start + count, self.count)
        while (missing := self._missing(start, end)) is not None:
            self.load(missing)
        return [row for index in range(start, end) if (row := self.row(index)) is not None]

    def detail(self, index: int) -> TraceDetail:
        """The trace at `index` with everything that is known of it; waits for the store."""
        return detail_at(self._reading, self._places[index])

    def _missing(self, start: int, end: int) -> int | None:
        with self._lock:
            return next((page for page in range(start // BORDERS.page_rows, -(-end // BORDERS.page_rows))
                         if end > start and page not in self._pages), None)

    @cached_property
    def _reading(self) -> Sessions:
        return readers(self._store.path)


def list_traces(workspace: Workspace, where: str = "", search: str = "", order: str = "stored", selection: str = "",
                limit: int = 20) -> list[dict[str, Any]]:
    """The first `limit` traces of such a view, as `Store.listing` gives them."""
    check_order(order)
    store = open_store(workspace)
    if order == "stored" and not selection:
        return store.listing(where or None, search, limit)
    browser = Browser(store, where, search, order, selection)
    browser.resolve()
    return listed(readers(store.path), [browser.seq(index) for index in range(min(limit, browser.count))])


def browse(workspace: Workspace, where: str = "", search: str = "", order: str = "stored",
           selection: str = "") -> Browser:
    """A view of the workspace's traces; what lies in journals of runs is taken in first."""
    store = open_store(workspace)
    browser = Browser(store, where, search, order, selection)
    browser.missing = tuple(missing_in(workspace, store))
    return browser


def missing_traces(workspace: Workspace) -> list[Missing]:
    """What the store of the workspace should hold and does not, each with what brings it back."""
    return missing_in(workspace, open_store(workspace))


def trace_detail(workspace: Workspace, trace_id: str) -> TraceDetail:
    """The trace with exactly this id and what hangs on it; StoreError when it is not stored."""
    sessions = readers(open_store(workspace).path)
    return detail_at(sessions, place_of(sessions, trace_id))
