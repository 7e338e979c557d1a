"""What the followed run has spent and may spend, on one line."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from localdistill import Budget, LocalDistillError, RunFolder, budget_of
from tui.state import RunView
from tui.text import joined, line, shown
from tui.ui import ui_of
from tui.widgets.facts import MUTED


class BudgetLine(Static):
    """Money of one run. Its ledger is read when the run or its state changes; between, what the run reports counts."""

    budget: Budget | None = None
    """What is known; None when no run is followed."""
    _read: tuple[str, str] = ("", "")

    def show(self, view: RunView | None) -> None:
        """Draw the money of `view`."""
        if view is None:
            self.budget, self._read = None, ("", "")
            self.update(shown("no run is followed, so nothing is spent", MUTED))
            return
        if (view.run_id, view.state) != self._read:
            self._read = view.run_id, view.state
            self._look(view)
        elif self.budget is not None and view.is_alive:
            self.update(_budget(self.budget, view.state, view.counters.get("usd", self.budget.spent_usd)))

    def _look(self, view: RunView) -> None:
        ui = ui_of(self)
        runs = ui.workspace.runs

        def done(budget: Budget) -> None:
            self.budget = budget
            self.update(_budget(budget, view.state, budget.spent_usd))

        def failed(error: LocalDistillError) -> None:
            self.budget = None
            self.update(shown(f"budget: {line(error.message, 200)}", MUTED))

        ui.jobs.do(lambda: budget_of(RunFolder.open(runs, view.run_id)), done, group="budget", failed=failed)


def _budget(budget: Budget, state: str, spent: float) -> Content:
    cap = "no cap" if budget.cap_usd is None else f"cap ${budget.cap_usd:,.2f}"
    left = "" if budget.cap_usd is None or budget.problem else f", ${max(0.0, budget.cap_usd - spent):,.4f} left"
    reserved = f", ${budget.open_usd:,.4f} reserved" if budget.open_usd else ""
    paused = shown("   paused at its cap: c raises it", "$warning") if state == "paused" else Content("")
    if budget.problem:
        why = line(budget.problem, 80)
        paused = shown(f"   its ledger of calls is not whole ({why}): c asks what was spent", "$warning")
    said = f"${spent:,.4f} spent"
    if budget.problem:
        said = f"at least {said}" if budget.cap_usd is None else f"${spent:,.4f} count as spent, for nobody knows"
    return joined(shown("budget ", "bold"), shown(f"{line(budget.run_id, 60)}: {said}{reserved}; "),
                  shown(f"{cap}{left}", MUTED), paused)
