"""All runs of a workspace and where each is. Who looks again and again keeps the listing: a run is read again only
where its files changed or somebody works on it, so that a second look at 10,000 runs costs little."""

from __future__ import annotations

import os
from pathlib import Path

from localdistill.safety.files import Stamp, is_locked, stamp_of
from localdistill.workspace.run_folder import LOCK, REQUEST, STATUS, RunFolder, RunStatus, is_run


class RunListing:
    """The runs below the folder `runs`."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[str, tuple[Stamp | None, Stamp | None, RunStatus]] = {}

    def look(self) -> tuple[RunStatus, ...]:
        """The status of every run, as `RunFolder.status` says it, in the order of `list_runs`: oldest first."""
        known, self._known = self._known, {}
        top = str(self._runs)
        found = [status for name in _names(self._runs)
                 if (status := self._status(f"{top}/{name}", known.get(f"{top}/{name}"))) is not None]
        return tuple(sorted(found, key=lambda status: (status.started_at, len(status.run_id), status.run_id)))

    def _status(self, path: str, before: tuple[Stamp | None, Stamp | None, RunStatus] | None) -> RunStatus | None:
        """Of the run in the folder at `path`; None when it is none."""
        request, said = stamp_of(f"{path}/{REQUEST}"), stamp_of(f"{path}/{STATUS}")  # later changes are seen next time
        if before is None or before[:2] != (request, said) or is_locked(f"{path}/{LOCK}"):
            if request is None and not is_run(path):
                return None
            before = (request, said, RunFolder(path).status())
        status = before[2]
        if status.data and not status.alive:  # others may change without a change of these files
            self._known[path] = before
        return status


def _names(runs: Path) -> list[str]:
    return os.listdir(runs) if runs.is_dir() else []
