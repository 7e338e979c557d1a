"""Starting, following, cancelling and resuming runs: each is a process of its own, so that closing whatever started it
never stops it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.core.events import Event, silent
from localdistill.runs.naming import run_to
from localdistill.runs.power import OnBattery
from localdistill.runs.supervisor import secrets_of
from localdistill.safety.children import NOTHING, Process, start_module
from localdistill.safety.files import free_bytes
from localdistill.spending.ledger import SpendLedger
from localdistill.spending.reading import NANO, read_ledger, state_spent
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import START_TIMEOUT_S, STATUS, RunFolder, RunStatus, list_runs

if TYPE_CHECKING:
    from localdistill.recipe import Recipe

POLL_S = 0.1
_OF_PYTHON = re.compile(r"^[\w.]*(Error|Exception): (\[Errno \d+\] )?")
"""With what the last line of a traceback begins."""


def start(
    workspace: Workspace, recipe: Recipe, text: str, base: Path, until: str = "", sample: int = 0, named: str = "",
    on_battery: OnBattery = "go", end_by: float | None = None, queued: bool = False, notify: str = ""
) -> RunFolder:
    """Start a run of `recipe` in a process of its own and return its folder.

    text: the recipe as given. base: folder that relative paths in it start from. until: last stage to run. sample:
    ask only so many prompts, evenly spaced; 0 asks all. named: the recipe and its settings as a command line names
    them, so that the run can name them again. on_battery: `pause` lets stages that compute here wait for mains power.
    end_by: seconds since the epoch by which a race of several seeds is to end, with as many of them as fit; any other
    run leaves nothing out. queued: it begins once nobody trains on its device any more, and has that to its end; any
    other one waits before its training only. notify: a command that is run when it ends, or `desktop` (see
    `end_notice`). UsageError when the terms of use of a teacher are not accepted (see
    `localdistill.workspace.terms`), RecipeError with everything that these stages are known to fail on.
    """
    from localdistill.workspace.hub_pins import pinned
    from localdistill.workspace.retiring import close_journals  # to look at runs needs no store
    from localdistill.workspace.terms import require

    require(recipe, workspace)
    stages = recipe.stages(until)
    close_journals(workspace)
    recipe = pinned(workspace, recipe)
    asked = {"stages": stages, "base": str(base.resolve()), **({"sample": sample} if sample else {}),
             **({"named": named} if named else {}), "on_battery": on_battery, "until": end_by,
             "queued": queued, "notify": notify,
             "warnings": _checked(workspace, recipe, base, stages)}
    run = RunFolder.create(workspace.runs, recipe, text, {**asked, "ledger": True})
    with run.hold() as lock:
        SpendLedger(run.calls).close()  # from now on one that is not there is known to be gone
        process = _launch(run, workspace, lock)
    _wait_for(run, process)
    return run


def resume(
    workspace: Workspace, run_id: str = "", max_usd: float | None = None, spent_usd: float | None = None, arm: str = "",
    on_battery: OnBattery | None = None, end_by: float | None = None, notify: str | None = None
) -> RunFolder:
    """Continue a run that failed, was cancelled, paused or died; what is done is skipped. Without `run_id`: see
    `run_to`.

    max_usd: the new cap on what the run may spend in all, calls before this one included; None leaves it. spent_usd:
    what it has spent so far, for a run whose ledger of calls is not whole; UsageError when it is. arm: export this one
    (an arm, `base` or `best`) from now on, whatever the recipe says; empty leaves it. on_battery: whether it waits for
    mains power from now on; None leaves it. end_by: as in `start`; None takes all seeds. notify: as in `start`; None
    leaves it. RecipeError with everything that the stages which are not done are known to fail on: files may have gone
    since it began.
    """
    run = run_to("resume", workspace, run_id)
    with run.hold() as lock:  # from here on nobody else starts it, or changes what it was asked for
        _prepare(workspace, run, max_usd, spent_usd, arm)
        run.amend_request(until=end_by, **({"on_battery": on_battery} if on_battery is not None else {}),
                          **({"notify": notify} if notify is not None else {}))
        process = _launch(run, workspace, lock)
    _wait_for(run, process)
    return run


def _prepare(workspace: Workspace, run: RunFolder, max_usd: float | None, spent_usd: float | None, arm: str) -> None:
    """Change what a run was asked for, as `resume` is told; its lock is held."""
    if spent_usd is not None:
        book = read_ledger(run.calls, run.proof_of_calls)
        if not book.problem:
            raise UsageError(f"the ledger of calls of run {run.id} is whole: ${book.least / NANO:.4f} are spent or "
                             "reserved",
                             f"localdistill resume {run.id}, without --spent")
        if not 0 <= spent_usd < float("inf"):
            raise UsageError("what was spent is 0 or more US dollars", f"localdistill resume {run.id} --spent 1.25")
        state_spent(run.calls, spent_usd)
    if arm:
        _require_arm(run, arm)
    lost = [f"{one}: what it held and nothing else does is asked for again" for one in run.lost()]
    run.amend_request(warnings=[*_checked_again(workspace, run, arm), *lost])
    if max_usd is not None:
        run.amend_request(max_usd=max_usd)
    if arm:
        run.amend_request(export_arm=arm)
    run.clear_cancel()


def _checked(workspace: Workspace, recipe: Recipe, base: Path, stages: Sequence[str]) -> list[str]:
    """The warnings about these stages, for the run to tell. RecipeError with all that they are known to fail on."""
    from localdistill.stages.checking import check_recipe, require_sound
    from localdistill.workspace.recovery import open_store

    return require_sound(check_recipe(recipe, base, stages, room_bytes=free_bytes(workspace.root),
                                      store=open_store(workspace)))


def _checked_again(workspace: Workspace, run: RunFolder, arm: str) -> list[str]:
    """The same of a run that goes on, for the stages that it has not done."""
    from localdistill.stages.outputs import has_output

    recipe, request = run.recipe(), run.request()
    stages = [stage for stage in request["stages"] if not has_output(run, stage)]
    if recipe.export is not None and (chosen := arm or request.get("export_arm")):
        recipe = recipe.model_copy(update={"export": recipe.export.model_copy(update={"arm": chosen})})
    return _checked(workspace, recipe, Path(request["base"]), stages) if stages else []


def _require_arm(run: RunFolder, arm: str) -> None:
    """UsageError when this run cannot export `arm`."""
    recipe = run.recipe()
    if recipe.export is None or "export" not in run.request()["stages"]:
        raise UsageError(f"run {run.id} ends before an export, so it can export no arm",
                         f"localdistill export RECIPE --set export.arm={arm} starts a run that does")
    known = [*(section.name for section in recipe.arms), "base", *(["best"] if recipe.evaluate else [])]
    if arm not in known:
        raise UsageError(f"run {run.id} has no arm '{arm}'{nearest(arm, known)}", f"it has: {', '.join(known)}")


def _launch(run: RunFolder, workspace: Workspace, lock: IO[bytes]) -> Process:
    """Start the supervisor. It is handed the lock, so that the run lives from here on, is never seen dead while it
    starts, and of several who want to start it one does."""
    with open(run.log, "ab") as log:
        (run.path / STATUS).unlink(missing_ok=True)
        return start_module(
            "localdistill.runs",
            str(run.path),
            str(lock.fileno()),
            secrets=secrets_of(run.recipe()),
            is_offline=False,
            cwd=workspace.root,
            stdin=NOTHING,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )


def _wait_for(run: RunFolder, process: Process) -> None:
    """Wait until the supervisor has said where it is; who waits holds the lock no more."""
    failed = process.wait() != 0
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (run.path / STATUS).exists():
        if failed or time.monotonic() > deadline:
            tail = run.log.read_text(errors="replace").strip().splitlines()[-1:]
            why = _OF_PYTHON.sub("", tail[0]) if tail else "its process said nothing"
            raise LocalDistillError(f"the run {run.id} did not start: {why}", f"see {run.log}")
        time.sleep(0.01)


def follow(run: RunFolder, offset: int = 0, stop: Callable[[], bool] = lambda: False) -> Iterator[Event | RunStatus]:
    """Facts as they are written and the status as it changes, until the run ends (its last status comes last). The
    facts before the first status are past: they were written before anybody followed."""
    seen = 0.0
    while True:
        status = run.status()
        for event, behind in run.events(offset):
            offset = behind
            yield event
        ended = not status.alive and status.state != "starting"
        if status.updated_at != seen or ended:
            seen = status.updated_at
            yield status
        if ended or stop():
            return
        time.sleep(POLL_S)


def cancel(workspace: Workspace, run_id: str = "") -> bool:
    """Ask a run to stop at its next safe point; asked again, it is stopped at once. True when it was asked before.
    Without `run_id` the one that runs is meant: see `run_to`."""
    run = run_to("cancel", workspace, run_id)
    status = run.status()
    if not status.alive:
        living = [folder.id for folder in list_runs(workspace.runs) if folder.is_alive()]
        raise UsageError(f"run {run.id} is not running (it is {status.state})",
                         f"running: {', '.join(living)}" if living else "no run is running here")
    asked_before = run.ask_cancel()
    if asked_before and (pid := run.holder()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return asked_before


def cancel_batches(workspace: Workspace, run_id: str, emit: Callable[[Event], None] = silent) -> int:
    """Cancel at their providers the batches under way of a run's teachers; returns how many. What they answered so far
    is still collected by a resume. Errors of providers are raised."""
    from localdistill.engines import ENGINES
    from localdistill.engines.base import Metered
    from localdistill.stages.context import build_member

    run = RunFolder.open(workspace.runs, run_id)
    count = 0
    for section in run.recipe().asked_engines:
        engine = build_member(ENGINES, section, Path(run.request()["base"]))
        if isinstance(engine, Metered):
            from localdistill.engines.wire.batch.answering import cancel_batches as cancel_at_provider
            from localdistill.engines.wire.engine import WireEngine

            engine.folder = workspace.batches
            if isinstance(engine, WireEngine):
                count += cancel_at_provider(engine, emit)
        engine.close()
    return count


def wait(run: RunFolder, watch: Sequence[Callable[[Event], None]] = ()) -> RunStatus:
    """Block until the run has ended; `watch` gets its facts."""
    status = run.status()
    for item in follow(run):
        if isinstance(item, RunStatus):
            status = item
        else:
            for look in watch:
                look(item)
    return status
