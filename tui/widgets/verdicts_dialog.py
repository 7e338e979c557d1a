"""Verdicts by rule in a window: how many each rule made, and which ones a new version of a grader turned round; enter
lists the traces of a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from localdistill import VerdictCount, grading_rules, verdicts_by_rule, with_rules
from tui.text import line, shown
from tui.widgets.dialogs import Dialog
from tui.widgets.paged_table import Cell, Column, ListRows, PagedTable

COLUMNS = (Column("grader", 14), Column("rules", 0), Column("right", 8, right=True), Column("wrong", 8, right=True),
           Column("undecided", 10, right=True), Column("changed", 12, right=True, from_width=90))


def verdict_cells(one: VerdictCount) -> Sequence[Cell]:
    """One line of the table."""
    changed = f"+{one.now_right:,} -{one.not_right_any_more:,}" if one.now_right or one.not_right_any_more else ""
    counts = ((one.right, "good"), (one.wrong, "bad"), (one.undecided, "warn"))
    return ((f"{one.grader}@{one.version}", "muted"), (one.rules or "-", ""),
            *((f"{count:,}", kind if count else "muted") for count, kind in counts), (changed, "warn"))


class VerdictsDialog(Dialog[None]):
    """Walk through the counts; what the rules of a line say stands below."""

    DEFAULT_CSS = """
    VerdictsDialog > Vertical { height: 90%; width: 90%; }
    VerdictsDialog #rules-said { height: 6; margin-top: 1; }
    """

    def __init__(self, chosen: Callable[[str], None]) -> None:
        """chosen: told the condition on the traces of the line that was taken."""
        super().__init__()
        self._chosen = chosen
        self._counts: Sequence[VerdictCount] = ()

    def compose(self) -> ComposeResult:
        """A title, the table, what the rules say, the keys."""
        with Vertical():
            yield Static(shown("verdicts by rule", "bold"), id="verdicts-title")
            yield PagedTable(COLUMNS, id="verdicts")
            yield Static(id="rules-said")
            yield Static(shown("enter: its traces   escape: close"), classes="keys")

    def on_mount(self) -> None:
        """Look."""
        self.query_one("#verdicts").focus()
        self.ui.jobs.do(lambda: verdicts_by_rule(self.ui.workspace), self._found, group="verdicts")

    def _found(self, counts: Sequence[VerdictCount]) -> None:
        self._counts = counts
        for table in self.query("#verdicts").results(PagedTable):  # none once the window is closed
            total = sum(one.right + one.wrong + one.undecided for one in counts)
            self.query_one("#verdicts-title", Static).update(shown(f"{total:,} verdicts by rule", "bold"))
            table.show(ListRows([verdict_cells(one) for one in counts]))
            self._explain(0)

    def on_paged_table_moved(self, event: PagedTable.Moved) -> None:
        """Explain the line under the cursor."""
        self._explain(event.index)

    def _explain(self, index: int) -> None:
        book = grading_rules()
        names = self._counts[index].rules.split(", ") if index < len(self._counts) else []
        said = "\n".join(f"{line(name)}: {line(book[name], 200)}" for name in names if name in book)
        self.query_one("#rules-said", Static).update(shown(said, "$foreground-muted"))

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        """List its traces."""
        if event.index < len(self._counts) and self._counts[event.index].rules:
            self.dismiss(None)
            self._chosen(with_rules(self._counts[event.index].rules))
