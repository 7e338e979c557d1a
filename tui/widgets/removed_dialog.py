"""What filters remove, in a window: each trace with the reason, counted by cause; enter opens one."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from localdistill import LocalDistillError, Removals
from tui.text import joined, line, safe, shown
from tui.widgets.dialogs import Dialog
from tui.widgets.paged_table import Column, ListRows, PagedTable

COLUMNS = (Column("removed by", 14), Column("reason", 0), Column("question", 40, from_width=90))


class RemovedDialog(Dialog[None]):
    """Walk through what is removed."""

    DEFAULT_CSS = """
    RemovedDialog > Vertical { height: 90%; width: 90%; }
    """

    def __init__(self, look: Callable[[], Removals], chosen: Callable[[str], None]) -> None:
        """look: finds out what is removed, away from the screen; chosen: told the id of the trace that was taken."""
        super().__init__()
        self._look, self._chosen = look, chosen
        self._found: Removals | None = None

    def compose(self) -> ComposeResult:
        """The counts, the table, the reason under the cursor in full, the keys."""
        with Vertical():
            yield Static(shown("looking ...", "$foreground-muted"), id="removed-title")
            yield PagedTable(COLUMNS, id="removed")
            yield Static(id="removed-reason")
            yield Static(shown("enter: opens the trace   escape: close"), classes="keys")

    def on_mount(self) -> None:
        """Look."""
        self.query_one("#removed").focus()
        self.ui.jobs.do(self._look, self._show, group="removed", failed=self._failed)

    def _show(self, found: Removals) -> None:
        self._found = found
        for table in self.query("#removed").results(PagedTable):  # none once the window is closed
            counts = ", ".join(f"{line(name)} {count:,}" for name, count in found.by_filter.items()) or "nothing"
            self.query_one("#removed-title", Static).update(joined(
                shown(f"{found.asked:,} traces, {found.kept:,} kept; ", "bold"), shown(f"removed: {counts}")))
            table.show(ListRows([((line(row.by), "strong"), (line(row.reason, 200), ""),
                                  (line(row.question, 80), "muted")) for row in found.rows]))
            self._tell(0)

    def _failed(self, error: LocalDistillError) -> None:
        for title in self.query("#removed-title").results(Static):
            title.update(joined(shown(f"✗ {safe(error.message)}", "$text-error"),
                                shown(f"\n{safe(error.hint)}", "$foreground-muted")))

    def _tell(self, index: int) -> None:
        rows = self._found.rows if self._found else ()
        text = line(rows[index].reason, 500) if index < len(rows) else ""
        self.query_one("#removed-reason", Static).update(shown(text, "$foreground-muted"))

    def on_paged_table_moved(self, event: PagedTable.Moved) -> None:
        """The whole reason."""
        self._tell(self.query_one("#removed", PagedTable).cursor)

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        """Open it."""
        rows = self._found.rows if self._found else ()
        if event.index < len(rows):
            self.dismiss(None)
            self._chosen(str(rows[event.index].trace_id))
