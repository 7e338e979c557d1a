"""One stage of a run in this process, as its own process would do it, down to what it says when it fails."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from unittest.mock import patch

from localdistill import Workspace
from localdistill.core.events import Event, Failed, event_from_json
from localdistill.stages import __main__ as process
from localdistill.workspace.run_folder import EVENTS_FD_VARIABLE, RunFolder


@dataclass(frozen=True)
class Ended:
    """How a stage ended."""

    code: int
    events: tuple[Event, ...]

    @property
    def failure(self) -> Failed | None:
        """What it said of its failure."""
        return next((event for event in self.events if isinstance(event, Failed)), None)


def run_stage(workspace: Workspace, run: RunFolder, stage: str) -> Ended:
    """Run it to its end."""
    read_fd, write_fd = os.pipe()
    lines: list[bytes] = []

    def take() -> None:
        with os.fdopen(read_fd, "rb") as pipe:
            lines.extend(pipe)

    reader = threading.Thread(target=take, daemon=True)
    reader.start()
    before = sys.argv, dict(os.environ)
    recipe = run.recipe()
    sys.argv = ["stages", str(run.path), stage, str(recipe.train.seeds if recipe.train else 1)]
    os.environ[EVENTS_FD_VARIABLE] = str(write_fd)
    try:
        with patch.object(process, "_watch_supervisor", lambda parent: None):
            code = process.main()
    finally:
        os.close(write_fd)
        sys.argv = before[0]
        os.environ.clear()
        os.environ.update(before[1])
        reader.join()
    events = (event_from_json(json.loads(line)) for line in lines)
    return Ended(code, tuple(event for event in events if event))
