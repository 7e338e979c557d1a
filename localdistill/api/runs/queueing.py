"""Leaving the queue of a device: a run that waits there is told to stop; one that works is not."""

from __future__ import annotations

from pathlib import Path

from localdistill.core.errors import UsageError, nearest
from localdistill.runs import cancel
from localdistill.runs.device_queue import QueuedUse, device_queue
from localdistill.workspace.folder import Workspace


def leave_queue(workspace: Workspace, run_id: str) -> QueuedUse:
    """Cancel the run `run_id`, which waits for a device: one of `workspace` where several are called so. It can be
    resumed. UsageError when it does not wait."""
    found = [queued for queued in device_queue() if queued.use.who == run_id]
    waiting = sorted((one for one in found if one.waits), key=lambda one: Path(one.use.where) != workspace.root)
    if not waiting:
        if found:
            raise UsageError(f"{run_id} does not wait: it works on {found[0].use.device}",
                             f"localdistill cancel {run_id} stops it")
        names = [one.use.who for one in device_queue() if one.waits]
        raise UsageError(f"no run '{run_id}' waits for a device{nearest(run_id, names)}",
                         f"waiting: {', '.join(names)}" if names else "localdistill queue lists who does")
    cancel(Workspace(Path(waiting[0].use.where)), run_id)
    return waiting[0]
