"""Where a workspace stands: what is stored, how far the newest run came, what the machine is, and what would be a
sensible next step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill.api.runs.budgets import budget_of
from localdistill.api.runs.results import run_result
from localdistill.core.disk import size_text
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.stages import STAGES
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.scorecard.result import Result
from localdistill.stages.outputs import OUTPUTS, EvaluateOutput, ExportOutput, has_output, is_due, read_output
from localdistill.store import Store, StoreCounts
from localdistill.store.session import WAIT_S
from localdistill.workspace.folder import Workspace
from localdistill.workspace.leftovers import leftovers
from localdistill.workspace.recovery import missing_in, open_store
from localdistill.workspace.run_folder import STAGES as STAGES_FOLDER
from localdistill.workspace.run_folder import RunFolder, RunStatus
from localdistill.workspace.run_listing import RunListing


@dataclass(frozen=True)
class ChainStep:
    """One stage of the chain, as the newest run left it."""

    stage: str
    state: str
    """`done`, `running`, `waiting`, or `absent` when the recipe does not have it."""


@dataclass(frozen=True)
class NextStep:
    """Something worth doing now."""

    text: str
    command: str
    """Without `localdistill` in front."""


@dataclass(frozen=True)
class Overview:
    """A workspace at a glance."""

    root: Path
    facts: tuple[tuple[str, str], ...]
    """(label, text): what is stored, disk, machine."""
    chain: tuple[ChainStep, ...]
    run: str
    """Id of the run that `chain` speaks of: the newest that runs, else the newest; empty when there is none."""
    next_steps: tuple[NextStep, ...]
    result: Result | None = None
    """Of the newest run that has one."""
    result_run: str = ""
    """Which run that is."""


def survey(workspace: Workspace, wait_s: float = WAIT_S) -> Overview:
    """Where `workspace` stands. StoreError when its store cannot be read, StoreLocked when another process holds it for
    longer than `wait_s`."""
    runs = RunListing(workspace.runs).look()
    status = next((run for run in reversed(runs) if run.alive), runs[-1] if runs else None)
    newest = RunFolder(workspace.runs / status.run_id) if status else None
    store = open_store(workspace, wait_s)
    counts = store.counts() if store.path.exists() else None
    result, result_run, why_not = _result(workspace, runs)
    steps = [*_steps(workspace, newest, status, counts.traces if counts else 0, counts.prompts if counts else 0)]
    if result is not None and result.next and result.next.command and status and status.run_id == result_run \
            and status.state == "finished":
        steps.insert(0, NextStep(result.next.text, result.next.command))
    chain, damages = _chain(newest, status)
    if why_not and not any(one in why_not for one in damages):
        damages.append(f"the result of {result_run} is not shown: {why_not}")
    return Overview(workspace.root, (*_facts(workspace, store, counts, runs), *(("damaged", one) for one in damages)),
                    tuple(chain), newest.id if newest else "", tuple(dict.fromkeys(steps)), result, result_run)


def _result(workspace: Workspace, runs: Sequence[RunStatus]) -> tuple[Result | None, str, str]:
    """The result of the newest run that was evaluated, its id, and why there is none although it was. There may be very
    many runs that were not."""
    top = str(workspace.runs)
    for run in reversed(runs):
        if os.path.lexists(f"{top}/{run.run_id}/{STAGES_FOLDER}/{EvaluateOutput.stage}.json"):
            try:
                return run_result(workspace, run.run_id), run.run_id, ""
            except LocalDistillError as error:
                return None, run.run_id, f"{error.message}. {error.hint}"
    return None, "", ""


def _facts(workspace: Workspace, store: Store, counts: StoreCounts | None,
           runs: Sequence[RunStatus]) -> list[tuple[str, str]]:
    facts = []
    if counts is not None:
        cost = f", ${counts.cost_usd:.2f} paid" if counts.cost_usd else ""
        facts.append(("stored", f"{counts.prompts:,} prompts, {counts.traces:,} traces "
                                f"({counts.rewritten:,} rewritten), {counts.grades:,} grades{cost}"))
        facts += [("missing", f"{one.text}. {one.hint}") for one in missing_in(workspace, store)]
    else:
        facts.append(("stored", "nothing yet"))
    facts.append(("runs", f"{len(runs):,}"))
    facts += [("waits", f"{run.run_id} waits for {run.data['waiting']}: {run.stage} goes on by itself then")
              for run in runs if run.alive and run.data.get("waiting")]
    if left := leftovers(workspace, runs):
        facts.append(("left", f"{len(left)} things that killed processes left, "
                              f"{size_text(sum(one.size_bytes for one in left))}: `localdistill runs prune` says what "
                              "nothing needs any more, and removes it"))
    facts += [("damaged", f"{run.run_id}: {run.problem}. localdistill verify says what else is")
              for run in runs if run.problem]
    machine = look_at_hardware()
    gpus = ", ".join(gpu.name if gpu.free_bytes is None else f"{gpu.name} ({gpu.free_bytes / 1e9:.1f} GB free)"
                     for gpu in machine.gpus)
    facts.append(("machine", f"{machine.cores} cores, {machine.free_memory_bytes / 1e9:.1f} GB of memory free, "
                             + (gpus or "no GPU seen")))
    disk = shutil.disk_usage(workspace.root if workspace.root.exists() else Path.cwd())
    facts.append(("disk", f"{disk.free / 1e9:.1f} GB free"))
    return facts


def _chain(run: RunFolder | None, status: RunStatus | None) -> tuple[list[ChainStep], list[str]]:
    """How far a run came, and what of its results is damaged or gone, in words."""
    if run is None or status is None:
        return [ChainStep(stage.name, "waiting") for stage in STAGES], []
    try:
        wanted = run.request()["stages"]
    except LocalDistillError:
        wanted = [stage.name for stage in STAGES]
    steps, damages = [], []
    for stage in (one.name for one in STAGES):
        if stage not in wanted:
            steps.append(ChainStep(stage, "absent"))
        elif status.alive and status.stage == stage:
            steps.append(ChainStep(stage, "running"))
        else:
            damage = _damage(run, stage)
            damages += [damage] if damage else []
            steps.append(ChainStep(stage, "done" if has_output(run, stage) else "waiting"))
    return steps, damages


def _damage(run: RunFolder, stage: str) -> str:
    """What is wrong with what a stage left; nothing where it has not run, unless its result is due."""
    try:
        read_output(run, OUTPUTS[stage])
    except UsageError as error:
        return f"{error.message}, and the run is finished. {error.hint} makes it again" if is_due(run, stage) else ""
    except LocalDistillError as error:
        return f"{error.message}. {error.hint}" if error.hint else error.message
    return ""


def _steps(workspace: Workspace, run: RunFolder | None, status: RunStatus | None, stored: int,
           questions: int) -> list[NextStep]:
    if (run is None or status is None) and stored:
        return [NextStep("look at what is stored", "traces"),
                NextStep("train on what is stored", "recipe new mine.toml --from-store"),
                NextStep("bring in more questions or traces", "import FILE")]
    if (run is None or status is None) and questions:
        return [NextStep("look at the questions that are stored", "prompts"),
                NextStep("ask a teacher what is stored", "recipe new mine.toml --from-store"),
                NextStep("bring in more questions or traces", "import FILE")]
    if run is None or status is None:
        return [NextStep("try the whole chain on the embedded pantry world", "run pantry"),
                NextStep("bring in questions or traces of your own", "import FILE"),
                NextStep("start from a recipe", "recipe new mine.toml")]
    steps = []
    if status.alive:
        steps.append(NextStep(f"watch {run.id}", f"attach {run.id}"))
    elif status.state == "paused" and budget_of(run).problem:
        steps.append(NextStep(f"what {run.id} has spent is not known: say it", f"resume {run.id} --spent USD"))
    elif status.state == "paused":
        steps.append(NextStep(f"{run.id} reached its cap: raise it", f"resume {run.id} --max-usd N"))
    elif status.state != "finished":
        steps.append(NextStep(f"{run.id} is {status.state}: go on", f"resume {run.id}"))
    elif has_output(run, "export"):
        made = read_output(run, ExportOutput)
        steps.append(NextStep("talk to what came out", f"chat {run.id}") if made.files else
                     NextStep("see what came out", f"exports {run.id}") if made.export else
                     NextStep("nothing was good enough to export: see why", f"exports {run.id}"))
    steps.append(NextStep("look at the traces", "traces"))
    steps.append(NextStep("examine this machine", "doctor"))
    return steps
