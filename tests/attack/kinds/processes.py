"""Whole runs: the supervisor or the process of a stage dies, is stopped or told to end at any of its file operations,
or the disk is full from there on. The run is resumed until it has finished, and must come to what it would have been.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import psutil

from localdistill import LocalDistillError, RunFolder, RunStatus, Workspace, resume
from tests.attack.ground import Ground, Place
from tests.attack.judging import of_error, of_words, worst
from tests.attack.kind import Ending, How, Kind
from tests.attack.results import RUN, acknowledged, differences, results_of
from tests.attack.shim import ALL, SYNCS, WRITES, Fault, failing_in
from tests.attack.teacher import KEY_VARIABLE, account
from tests.attack.victim import CAP_USD, STAGES
from tests.helpers import wait_for

WHO = {"the stage": "localdistill.stages", "the supervisor": "localdistill.runs"}
FAULTS = (
    *[Fault("SIGKILL", ALL)] * 5, Fault("SIGTERM", ALL), Fault("SIGINT", ALL), Fault("SIGHUP", ALL),
    Fault("SIGSTOP", ALL), Fault("SIGSEGV", ALL), *[Fault("ENOSPC", WRITES | SYNCS, True)] * 3, Fault("EIO", ALL),
)
WEIGHTS = (6, 3, 3, 4, 3, 2, 2, 2)
"""Of the stages: the cheap ones more often."""
MOST_RESUMES = 4
RAISED_USD = 4 * CAP_USD
"""The cap that a run gets which paused at its own: what a process that died had under way counts as spent."""
LOOK_EVERY_S = 0.05


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    stage, who = chance.choices(STAGES, WEIGHTS)[0], chance.choice(["the stage", "the stage", "the supervisor"])
    fault = chance.choice(FAULTS)
    place = ground.place(f"before-{stage}")
    most, sound = _whole(ground, place, stage, who, fault)
    nth = chance.randint(1, max(1, most))
    what = f"{fault.name}{' for good' if fault.goes_on else ''} at operation {nth} of {most} of {who} '{stage}'"
    workspace, key = place.fresh(), f"{ground.key}-{number}"
    os.environ[KEY_VARIABLE] = key
    try:
        in_journals = acknowledged(workspace)
        with failing_in(WHO[who], fault, nth, place.root):
            found = [_ended(workspace)]
        unseen = account(ground.victim.port, key).total - (acknowledged(workspace) - in_journals)
        found += _until_finished(workspace)
        bought = account(ground.victim.port, key)
    finally:
        os.environ[KEY_VARIABLE] = ground.key
    if found[-1][0] != "same":
        return worst(what, [*found, ("bad", f"the run does not go on: {found[-1][1]}")])
    if gone := differences(sound["results"], results_of(workspace)):
        found.append(("bad", f"resumed, and it came to something else: {gone}"))
    if bought.total > sound["bought"] + unseen:
        found.append(("bad", f"{bought.total} replies were bought where {sound['bought']} were needed and {unseen} "
                             "could not be acknowledged"))
    cap = RunFolder.open(workspace.runs, RUN).request().get("max_usd") or CAP_USD
    if bought.usd > cap:
        found.append(("bad", f"${bought.usd:.2f} were spent under a cap of ${cap}"))
    return worst(what, found)


def _ended(workspace: Workspace, max_usd: float | None = None) -> tuple[How, str]:
    """Run to the end, however it comes; what a person is told then."""
    try:
        with _waking_who_starts():
            run = resume(workspace, RUN, max_usd=max_usd)
        status = _waited(run)
    except LocalDistillError as error:
        _waited(RunFolder.open(workspace.runs, RUN))  # one that was stopped before it said where it is holds the run
        return of_error("resume", error)
    if status.state == "finished":
        return "same", ""
    if status.state in ("interrupted", "cancelled"):
        return "named", f"the run is {status.state}"
    return of_words(f"the run is {status.state}", str(status.data.get("message", "")), str(status.data.get("hint", "")))


def _waited(run: RunFolder) -> RunStatus:
    """The last status of a run; whoever is stopped meanwhile goes on."""
    while run.status().alive:
        if (pid := run.holder()) is not None:
            _wake(pid)
        time.sleep(LOOK_EVERY_S)
    return run.status()


@contextmanager
def _waking_who_starts() -> Iterator[None]:
    """Until a supervisor has left its parent, that waits for it, stopped or not."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(LOOK_EVERY_S):
            _wake(os.getpid())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _wake(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        supervisor = psutil.Process(pid)
        for process in (supervisor, *supervisor.children(recursive=True)):
            if process.status() == psutil.STATUS_STOPPED:
                process.resume()


def _until_finished(workspace: Workspace) -> list[tuple[How, str]]:
    """What each resume came to; the last one is `same` when the run finished. One that paused at its cap is resumed as
    it says."""
    found: list[tuple[How, str]] = []
    run = RunFolder.open(workspace.runs, RUN)
    while len(found) < MOST_RESUMES and (not found or found[-1][0] != "same"):
        found.append(_ended(workspace, RAISED_USD if run.status().state == "paused" else None))
    return found


_WHOLE: dict[str, dict[str, Any]] = {}
_COUNTS: dict[tuple[str, str, Fault], int] = {}


def _whole(ground: Ground, place: Place, stage: str, who: str, fault: Fault) -> tuple[int, dict[str, Any]]:
    """How many operations there are to fail, and what the run comes to when nothing happens."""
    if (stage, who, fault) not in _COUNTS:
        workspace, report = place.fresh(), ground.folder / "counted"
        before = ground.account().total
        report.unlink(missing_ok=True)
        with failing_in(WHO[who], fault, 0, place.root, report):
            how, said = _ended(workspace)
        assert how == "same", said
        _WHOLE.setdefault(stage, {"results": results_of(workspace), "bought": ground.account().total - before})
        wait_for(report.is_file)  # a supervisor lets go of the run before its process ends
        _COUNTS[stage, who, fault] = max(map(int, report.read_text().split()))
    return _COUNTS[stage, who, fault], _WHOLE[stage]


KIND = Kind("processes", "the processes of runs die, stop or find the disk full, at any file operation", 300, _attack,
            is_of_processes=True, needs_failing_files=True)
