"""The queue of this machine's devices: who computes, who waits, and leaving it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from localdistill import QueuedUse, device_queue, leave_queue
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ChoiceDialog, ReportDialog, Way
from tui.widgets.recipe_picker import recipes_of
from tui.widgets.text_dialog import PathDialog


def show_queue(ui: Ui) -> None:
    """Of all workspaces of this user."""
    report = ReportDialog("The queue of this machine", waiting="looking ...")
    ui.push_screen(report)
    ui.jobs.do(device_queue, lambda found: report.fill(rows(found)), group="queue", failed=report.fail)


def rows(found: Sequence[QueuedUse]) -> list[tuple[str, str]]:
    """One per user of a device."""
    if not found:
        return [("free", "nobody computes here, and nobody waits")]
    return [(f"{'· waits' if one.waits else '▶ works'}",
             f"{line(one.use.told)}, since {time.strftime('%H:%M', time.localtime(one.use.since))}, in "
             f"{line(one.use.where)}") for one in found]


def add(ui: Ui) -> None:
    """Choose a recipe; its run begins once its device is free."""

    def start(path: Path) -> None:
        ui.start_recipe(str(path), queued=True)

    def ask_file() -> None:
        ui.push_screen(PathDialog("A recipe", start, ui.workspace.root, (".toml",)))

    found = recipes_of(ui.workspace.root)
    ways = [Way(line(path.stem), partial(start, path), where) for where, paths in (
        ("in this workspace", found.own), ("ships with localdistill", found.shipped)) for path in paths]
    ways.append(Way("another file ...", ask_file, "the path of a recipe"))
    ui.push_screen(ChoiceDialog("Queue a recipe", "Its run begins once nobody trains on its device.", ways))


def leave(ui: Ui, run_id: str) -> None:
    """Take a run out of the queue."""
    ui.jobs.do(lambda: leave_queue(ui.workspace, run_id),
               lambda left: ui.notify(f"{line(left.use.who)} waits no more for {line(left.use.device)}", markup=False))
