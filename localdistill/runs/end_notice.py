"""What is told outside of localdistill when a run ends: a command that the user named, and a notification of the
desktop. Neither can fail a run, nor hold it up for long."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from localdistill.safety.children import NOTHING, Process, ends_within, start
from localdistill.safety.text import display_safe
from localdistill.workspace.run_folder import RunFolder

LONGEST_S = 60.0
"""A command that has not ended by then is ended."""
DESKTOP = "desktop"
"""In place of a command: a notification of the desktop alone."""
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_SCRIPT = ("on run argv", 'display notification (item 1 of argv) with title "localdistill"', "end run")


def give_notice(run: RunFolder, state: str, command: str, begin: Callable[..., Process] = start) -> None:
    """Run `command` by the shell, with LOCALDISTILL_RUN, LOCALDISTILL_RUN_STATE and LOCALDISTILL_RUN_FOLDER set, and
    notify the desktop where there is one. command: empty does neither, `desktop` the latter alone. begin: starts a
    process."""
    if not command:
        return
    told = {"LOCALDISTILL_RUN": run.id, "LOCALDISTILL_RUN_STATE": state, "LOCALDISTILL_RUN_FOLDER": str(run.path)}
    calls: list[Sequence[str]] = [] if command == DESKTOP else [("/bin/sh", "-c", command)]
    if desktop := desktop_call(f"run {run.id}: {state}"):
        calls.append(desktop)
    for call in calls:
        try:
            with open(run.log, "ab") as log:
                child = begin(list(call), told, stdin=NOTHING, stdout=log, stderr=log, cwd=run.path.parent.parent,
                              start_new_session=True)
            if not ends_within(child, LONGEST_S):
                child.kill()
        except OSError as error:
            _log(run, f"notice of the end: {call[0]}: {error}")


def desktop_call(text: str, find: Callable[[str], str | None] = shutil.which, system: str = sys.platform,
                 environment: Mapping[str, str] = os.environ) -> Sequence[str]:
    """The command that shows `text` on the desktop; empty where there is none."""
    safe = display_safe(text)
    if system == "darwin":
        program = find("osascript")
        return (program, *(part for line in _SCRIPT for part in ("-e", line)), safe) if program else ()
    program = find("notify-send")
    if program is None or not any(environment.get(name) for name in _DISPLAYS):
        return ()
    return program, "--", "localdistill", safe


def _log(run: RunFolder, text: str) -> None:
    try:
        with open(run.log, "a", encoding="utf-8") as log:
            log.write(f"{text}\n")
    except OSError:
        return
