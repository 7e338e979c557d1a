"""Forgetting a prompt with all that is kept of it: what goes and what stays is shown first, and nothing goes without a
yes."""

from __future__ import annotations

from collections.abc import Callable

from localdistill import Forgetting, Forgot, forget, plan_forgetting, unfinished_forgetting
from tui.text import line, safe
from tui.ui import Ui
from tui.widgets.dialogs import ConfirmDialog, ReportDialog

MOST_NAMED = 6


def forget_prompt(ui: Ui, what: str, done: Callable[[], None]) -> None:
    """Show what forgetting the prompt of a trace would do, and do it after a yes; what was begun before goes first."""

    def work() -> Forgetting:
        return unfinished_forgetting(ui.workspace) or plan_forgetting(ui.workspace, what)

    def planned(plan: Forgetting) -> None:
        ui.push_screen(ConfirmDialog(_told(plan), lambda: ui.jobs.do(
            lambda: forget(ui.workspace, plan), lambda forgot: forgotten(forgot), group="forget")))

    def forgotten(forgot: Forgot) -> None:
        done()
        rows = [("forgotten", f"{forgot.prompts:,} prompts, {forgot.traces:,} answers, {forgot.datasets:,} datasets"),
                *(("stays", text) for text in (*forgot.made, *forgot.stays)),
                *(("still in", f"{name}: something else may say the same") for name in forgot.still_in)]
        ui.push_screen(ReportDialog("Forgotten", rows))

    ui.jobs.do(work, planned, group="forget")


def _told(plan: Forgetting) -> str:
    made = [f"stays, without its texts: {line(text)}" for text in plan.made[:MOST_NAMED]]
    if len(plan.made) > MOST_NAMED:
        made.append(f"and {len(plan.made) - MOST_NAMED} more")
    return safe("\n".join([
        f"Forget {len(plan.names.prompts):,} prompts that ask this, {len(plan.names.traces):,} answers, "
        f"{plan.replies:,} replies about them, {len(plan.datasets):,} datasets made of them and {len(plan.files):,} "
        "older copies of the store, for good?", *made, *(f"cannot be removed: {line(text)}" for text in plan.stays)]))
