"""What runs are called: which one is meant when nobody names one - never one that the command makes no sense for, and
never one of several -, and how the recipe of one is typed again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from localdistill.core.errors import UsageError
from localdistill.modelfiles.shipped import recipe_file
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import RunFolder, RunStatus
from localdistill.workspace.run_listing import RunListing

Purpose = Literal["cancel", "attach", "resume"]


def run_to(purpose: Purpose, workspace: Workspace, run_id: str = "") -> RunFolder:
    """The run called `run_id`; when that is empty, the one that `purpose` can mean: to `cancel`, the one that runs; to
    `attach`, the one that runs, else the newest; to `resume`, the newest when it ended before its end, else the only
    one that did. UsageError when there is none, or several: it lists them."""
    if run_id:
        return RunFolder.open(workspace.runs, run_id)
    known = list(RunListing(workspace.runs).look())
    living = [status for status in known if status.alive]
    unfinished = [status for status in known if is_unfinished(status)]
    if purpose == "resume" and unfinished and unfinished[-1] is known[-1]:
        unfinished = unfinished[-1:]
    found = unfinished if purpose == "resume" else living
    if not found and purpose == "attach":
        found = known[-1:]
    if len(found) == 1:
        return RunFolder(workspace.runs / found[0].run_id)
    raise _several(purpose, found) if found else _none(purpose, known, living)


def is_unfinished(status: RunStatus) -> bool:
    """Nobody works on it, and there is something left to do."""
    return not status.alive and status.state not in ("finished", "starting")


def _several(purpose: str, found: Sequence[RunStatus]) -> UsageError:
    named = ", ".join(f"{status.run_id} ({status.state}{' in ' + status.stage if status.stage else ''})"
                      for status in found)
    return UsageError(f"which run? {len(found)} could be meant: {named}",
                      f"name one: localdistill {purpose} {found[-1].run_id}")


def _none(purpose: str, known: Sequence[RunStatus], living: Sequence[RunStatus]) -> UsageError:
    if not known:
        return UsageError("there are no runs here", "`localdistill run RECIPE` starts one; --workspace picks another "
                                                    "folder")
    if purpose == "cancel":
        return UsageError(f"no run is running here (the newest, {known[-1].run_id}, is {known[-1].state})",
                          "`localdistill runs` lists all runs")
    if living:
        return UsageError(f"no run has to be resumed ({living[-1].run_id} is running)",
                          f"localdistill attach {living[-1].run_id}")
    return UsageError(f"no run has to be resumed (the newest, {known[-1].run_id}, is {known[-1].state})",
                      f"to go through it once more: localdistill resume {known[-1].run_id}")


def typed_again(name: str, settings: Sequence[str] = ()) -> str:
    """A recipe, named by its file or as a shipped one, and its settings as they can be typed again in any folder."""
    file = recipe_file(name)
    given = str(file.resolve()) if file == Path(name).expanduser() else name
    return shlex.join([given, *(part for change in settings for part in ("--set", change))])
