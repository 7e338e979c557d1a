"""Looking at stored traces: a view over any number of them that scrolls without waiting, and one trace with everything
that is known of it. A view resolves its ordered row numbers once (8 bytes a trace); pages are fetched by number, kept,
and their neighbours fetched ahead. It does not notice what is stored later: a new view does."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from localdistill.api.traces.paging import PagedView
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
from localdistill.store.view import listed
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import Missing, missing_in, open_store

TraceRow = ShortRow
TRACE_ORDERS = tuple(ORDERS)


class Browser(PagedView[TraceRow]):
    """The traces of a store that meet the SQL condition `where` (worked out in a child, as `Store.listing` does) and
    hold the text `search`, in one of `TRACE_ORDERS`; with `selection`, only those of the saved selection; with `sample`
    so many of all these, drawn at random with the seed `seed`: the same ones as long as nothing else is stored.

    `resolve` and `load` wait for the store and belong in a thread; `count`, `row` and `wanted` never wait. All may be
    called from several threads. UsageError for a condition or order that cannot be used; StoreLocked and StoreError as
    for every reading.
    """

    def __init__(self, store: Store, where: str = "", search: str = "", order: str = "stored",
                 selection: str = "", sample: int = 0, seed: int = 0) -> None:
        check_order(order)
        self.where, self.search, self.order, self.selection = where, search, order, selection
        self.sample, self.seed = sample, seed
        super().__init__(store.path)
        self.missing: tuple[Missing, ...] = ()
        """What the store should hold and does not, and what brings it back."""
        self._store = store

    def resolve(self, grew: Callable[[], None] = lambda: None) -> None:
        """Find the traces. With the order `stored` those found first can be looked at while others are searched;
        `grew` is called now and then, and when all were found."""
        if self._store.path.exists():
            chosen = self._chosen()
            if self.sample:
                found = array("q")
                for piece in self._found(chosen):
                    found.extend(piece)
                drawn = array("q", sorted(Random(self.seed).sample(found, min(self.sample, len(found)))))
                self._places = drawn if self.order == "stored" else sorted_places(self._reading, self.order, drawn)
            elif self.order == "stored":
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

    def _fetched(self, places: Sequence[int]) -> list[TraceRow]:
        return short_rows(self._reading, places)

    def detail(self, index: int) -> TraceDetail:
        """The trace at `index` with everything that is known of it; waits for the store."""
        return detail_at(self._reading, self._places[index])


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
           selection: str = "", sample: int = 0, seed: int = 0) -> Browser:
    """A view of the workspace's traces; what lies in journals of runs is taken in first."""
    store = open_store(workspace)
    browser = Browser(store, where, search, order, selection, sample, seed)
    browser.missing = tuple(missing_in(workspace, store))
    return browser


def missing_traces(workspace: Workspace) -> list[Missing]:
    """What the store of the workspace should hold and does not, each with what brings it back."""
    return missing_in(workspace, open_store(workspace))


def trace_detail(workspace: Workspace, trace_id: str) -> TraceDetail:
    """The trace with exactly this id and what hangs on it; StoreError when it is not stored."""
    sessions = readers(open_store(workspace).path)
    return detail_at(sessions, place_of(sessions, trace_id))
