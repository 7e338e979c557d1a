"""Stored prompts in a window: all, those with an answer, those without; enter lists the answers of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from localdistill import PromptBrowser, browse_prompts
from tui.text import shown
from tui.widgets.dialogs import Dialog
from tui.widgets.paged_table import Cell, Column, PagedTable

COLUMNS = (Column("answers", 8, right=True), Column("reference", 10), Column("question", 0),
           Column("source", 24, from_width=90))
SHOWN: tuple[tuple[bool | None, str], ...] = ((None, "prompts"), (True, "prompts with an answer"),
                                              (False, "prompts without an answer"))


class PromptLines:
    """A view of prompts as rows of the table."""

    def __init__(self, browser: PromptBrowser, fetch: Callable[[int, int], None]) -> None:
        self._browser, self._fetch = browser, fetch

    @property
    def count(self) -> int:
        """Prompts found so far."""
        return int(self._browser.count)

    def cells(self, index: int) -> Sequence[Cell] | None:
        """One prompt as cells."""
        row = self._browser.row(index)
        if row is None:
            return None
        return ((f"{row.answers:,}", "" if row.answers else "warn"), ("yes" if row.has_reference else "no", "muted"),
                (row.question, ""), (row.source, "muted"))

    def seen(self, first: int, last: int) -> None:
        """Fetch what is missing there."""
        self._fetch(first, last)


class PromptsDialog(Dialog[None]):
    """Walk through the prompts; `a` shows in turn all of them, those with an answer and those without."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("a", "other", "with or without an answer")]
    DEFAULT_CSS = """
    PromptsDialog > Vertical { height: 90%; width: 90%; }
    """

    def __init__(self, chosen: Callable[[str], None]) -> None:
        """chosen: told the id of the prompt that was taken."""
        super().__init__()
        self._chosen = chosen
        self._which = 0
        self._browser: PromptBrowser | None = None
        self._loading = False

    def compose(self) -> ComposeResult:
        """A line of what is shown, the table, the keys."""
        with Vertical():
            yield Static(id="prompts-title")
            yield PagedTable(COLUMNS, id="prompts")
            yield Static(shown("enter: its answers   a: with or without an answer   escape: close"), classes="keys")

    def on_mount(self) -> None:
        """Look."""
        self.query_one("#prompts").focus()
        self._look()

    def action_other(self) -> None:
        """The next of the three."""
        self._which = (self._which + 1) % len(SHOWN)
        self._look()

    def _look(self) -> None:
        answered, _ = SHOWN[self._which]

        def find() -> PromptBrowser:
            browser = browse_prompts(self.ui.workspace, answered)
            browser.resolve()
            return browser

        self.query_one("#prompts-title", Static).update(shown("looking ...", "$foreground-muted"))
        self.ui.jobs.do(find, self._found, group="prompts")

    def _found(self, browser: PromptBrowser) -> None:
        self._browser, self._loading = browser, False
        for table in self.query("#prompts").results(PagedTable):  # none once the window is closed
            self.query_one("#prompts-title", Static).update(shown(f"{browser.count:,} {SHOWN[self._which][1]}", "bold"))
            table.show(PromptLines(browser, self._fetch))

    def _fetch(self, first: int, last: int) -> None:
        browser = self._browser
        page = None if browser is None or self._loading else browser.wanted(first, last)
        if browser is None or page is None:
            return
        self._loading = True

        def loaded(_: None) -> None:
            self._loading = False
            for table in self.query("#prompts").results(PagedTable):
                table.arrived()

        self.ui.jobs.do(lambda: browser.load(page), loaded)

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        """List its answers."""
        row = self._browser.row(event.index) if self._browser else None
        if row is not None:
            self.dismiss(None)
            self._chosen(str(row.id))
