"""Stored traces as rows of a table: the columns, and a browser behind them that is asked and never waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localdistill import Browser, TraceRow
from tui.widgets.paged_table import Cell, Column
from tui.widgets.trace_text import verdict

COLUMNS = (
    Column("score", 6), Column("tokens", 7, right=True), Column("status", 10, from_width=70),
    Column("question", 0), Column("model", 22, from_width=100), Column("rewrite", 12, from_width=120),
    Column("cost", 10, right=True, from_width=130), Column("trace", 12, from_width=90),
)


class BrowserRows:
    """A browser as rows of the table; `fetch` is told which rows are in sight."""

    def __init__(self, browser: Browser, fetch: Callable[[int, int], None]) -> None:
        self.browser, self._fetch = browser, fetch

    @property
    def count(self) -> int:
        """Traces found so far."""
        return int(self.browser.count)

    def cells(self, index: int) -> Sequence[Cell] | None:
        """One trace as cells."""
        row = self.browser.row(index)
        if row is None:
            return None
        mark, kind = verdict(row.score)
        score = mark if row.score is None else f"{mark} {row.score:.3g}"
        cost = "" if row.cost_usd is None else f"${row.cost_usd:.6f}"
        return ((score, kind), (f"{row.tokens:,}" if row.tokens else "", ""),
                (row.status, "" if row.status == "complete" else "warn"), (_marked(row), ""),
                (_short_model(str(row.model)), "muted"), (row.rewritten_by, "muted"), (cost, "muted"),
                (row.id.removeprefix("b2:"), "muted"))

    def seen(self, first: int, last: int) -> None:
        """Fetch what is missing there."""
        self._fetch(first, last)


def _marked(row: TraceRow) -> str:
    """The question behind a person's marks."""
    marks = [*(["★"] if row.is_favourite else []), *(f"#{tag}" for tag in row.tags)]
    return " ".join([*marks, str(row.question)])


def _short_model(model: str) -> str:
    """A file's digest by its beginning, a server's model by its end."""
    return f"{model[:14]}…" if model.startswith("sha256:") else model[-22:]
