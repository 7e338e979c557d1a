"""Comparing runs: two are named, and their models stand on one score card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ReportDialog
from tui.widgets.text_dialog import Field, TextDialog, Then

if TYPE_CHECKING:
    from localdistill import ComparedRuns, Comparison


def compare(ui: Ui, first: str, second: str) -> None:
    """Ask for two runs, those filled in, and show who is better, in pairs."""

    def typed(values: Mapping[str, str]) -> Then:
        report = ReportDialog("Runs beside each other", waiting="comparing ...")

        def look() -> list[tuple[str, str]]:
            from localdistill import compare_runs

            return _rows(compare_runs(ui.workspace, [values["first"], values["second"]], values["task"]))

        def begin() -> None:
            ui.push_screen(report)
            ui.jobs.do(look, report.fill, group="compare", failed=report.fail)

        return begin

    ui.push_screen(TextDialog("Compare two runs", [
        Field("first", "run", first, "its name", is_needed=True),
        Field("second", "and run", second, "its name", is_needed=True),
        Field("task", "task", "", "empty: all that both have")], typed,
        "Models that answered the same items are compared in pairs, as if one evaluation had asked them."))


def _rows(found: ComparedRuns) -> list[tuple[str, str]]:
    rows = []
    for card in found.cards:
        rows.append(("", f"{card.task}, {card.items:,} items" + (" (guard)" if card.is_guard else "")))
        rows += [(row.name, f"{100 * row.score:.1f} %, {row.mean_answer_tokens:.0f} tokens") for row in card.rows]
        rows += [(entry.verdict, _sentence(entry)) for entry in card.comparisons]
    return [*rows, *(("! note", text) for text in found.notes)]


def _sentence(entry: Comparison) -> str:
    low, high = entry.interval
    return (f"{line(entry.first)} against {line(entry.second)}: {100 * entry.difference:+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f}), p {entry.p_adjusted:.4f}")
