"""Stored traces as a table that finds and fetches its own rows: a browser is asked in threads, and never waited for."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

from localdistill import Browser, LocalDistillError, TraceRow
from tui.text import line, safe
from tui.ui import ui_of
from tui.widgets.paged_table import PagedTable
from tui.widgets.trace_rows import COLUMNS, BrowserRows


class TraceList(PagedTable):
    """The traces of one browser after the other."""

    class Grew(Message):
        """More traces were found, or all of them."""

        def __init__(self, browser: Browser) -> None:
            super().__init__()
            self.browser = browser

    class Refused(Message):
        """The traces cannot be looked for."""

        def __init__(self, error: LocalDistillError) -> None:
            super().__init__()
            self.error = error

    def __init__(self, id: str | None = None) -> None:
        super().__init__(COLUMNS, id=id)
        self.browser: Browser | None = None
        """What is shown; None before the first."""
        self._span = (0, 0)
        self._loading = False

    @property
    def row(self) -> TraceRow | None:
        """The row under the cursor, where it is here."""
        return self.browser.row(self.cursor) if self.browser and self.count else None

    def look(self, begin: Callable[[], Browser]) -> None:
        """Show what another browser finds. The place stays where the order does."""
        if self.browser is not None and not self.browser.complete:
            self.browser.stop()
        ui_of(self).jobs.do(begin, self._begun, group="traces-open", failed=self._failed)

    def _begun(self, browser: Browser) -> None:
        ui = ui_of(self)
        before, place, self.browser, self._loading = self.browser, self.cursor, browser, False
        kept = place if before and before.order == browser.order else 0
        for missing in browser.missing:
            ui.notify(f"{line(missing.text, 200)}\n{safe(missing.hint)}", severity="warning", markup=False)
        self.show(BrowserRows(browser, self._fetch), 0)

        def resolved(_: None) -> None:
            if browser is self.browser:
                self.arrived()
                self.post_message(self.Grew(browser))
                if kept:
                    self.cursor = kept

        def failed(error: LocalDistillError) -> None:
            if before is not None and browser is self.browser:  # what was shown before can still be looked at
                self.browser = before
                self.show(BrowserRows(before, self._fetch), place)
            self._failed(error)

        ui.jobs.do(lambda: browser.resolve(lambda: self._told(browser)), resolved, group="traces", failed=failed)

    def _told(self, browser: Browser) -> None:
        self.post_message(self.Grew(browser))

    def on_trace_list_grew(self, event: Grew) -> None:
        """Draw what is new."""
        if event.browser is self.browser:
            self.arrived()

    def _failed(self, error: LocalDistillError) -> None:
        self.post_message(self.Refused(error))

    def _fetch(self, first: int, last: int) -> None:
        """These rows are in sight: fetch a page that is missing, then the next, and the neighbours ahead."""
        self._span = (first, last)
        browser = self.browser
        page = None if browser is None or self._loading else browser.wanted(first, last)
        if browser is None or page is None:
            return
        self._loading = True

        def loaded(_: None) -> None:
            if browser is self.browser:
                self._loading = False
                self.arrived()

        def failed(error: LocalDistillError) -> None:
            if browser is self.browser:
                self._loading = False
                ui_of(self).show_error(error)

        ui_of(self).jobs.do(lambda: browser.load(page), loaded, failed=failed)

    def changed(self, trace_id: str) -> None:
        """What is known of a trace changed: where it is in sight, its row is fetched anew. It stays where it is."""
        browser = self.browser
        if browser is None:
            return
        sight = (self.cursor, *range(self._span[0], min(self._span[1] + 1, browser.count)))
        index = next((n for n in sight if (row := browser.row(n)) is not None and row.id == trace_id), None)
        if index is not None:
            ui_of(self).jobs.do(lambda: browser.refresh(index), lambda _: self.arrived())
