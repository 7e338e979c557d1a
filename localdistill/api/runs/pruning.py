"""What takes disk in a workspace, what still depends on it, and its removal."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from localdistill.core.errors import LocalDistillError, StoreError, UsageError
from localdistill.stages.outputs import OUTPUTS, CollectOutput, read_output
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store, runs_of
from localdistill.workspace.run_folder import RunFolder, list_runs


@dataclass(frozen=True)
class PruneItem:
    """One run folder or artifact."""

    kind: str
    name: str
    label: str
    path: Path
    size_bytes: int
    kept_by: str
    """Why it stays; empty when it can go."""


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _digests(run: RunFolder) -> set[str]:
    """Every artifact that the run's stages refer to. LocalDistillError when one of them left what cannot be read."""
    found: set[str] = set()
    for kind in OUTPUTS.values():
        with contextlib.suppress(UsageError):  # that stage has not run; what cannot be read stops the pruning
            found |= read_output(run, kind).digests()
    return found


def _only_here(workspace: Workspace) -> dict[str, str]:
    """The runs whose folder holds what is nowhere else, each with what that is: replies that the store could not take
    in, and the prompts of stored traces that have none."""
    journals = workspace.journals()
    try:
        store = open_store(workspace)
        if not store.path.exists():
            return {}
        bringing = runs_of(workspace, store.without_prompt())
        return {**dict.fromkeys(bringing, "resuming it brings back prompts that the store lacks"),
                **{lack.path.parent.name: str(lack) for lack in store.lacking(journals)}}
    except StoreError as error:
        return {path.parent.name: f"its replies may not be in the store: {error.message}" for path in journals
                if path.stat().st_size}


def _needed(run: RunFolder, only_here: Mapping[str, str]) -> str:
    """Why a run cannot go, whatever its age; empty when it can."""
    status = run.status()
    if status.alive:
        return "running"
    if run.id in only_here:
        return only_here[run.id]
    if status.state != "finished":
        return "can be resumed"
    unanswered = _unanswered(run)
    return f"can be resumed: {unanswered:,} questions have no answer" if unanswered else ""


def _unanswered(run: RunFolder) -> int:
    """Questions that a finished run was allowed to leave out."""
    try:
        return read_output(run, CollectOutput).unanswered
    except LocalDistillError:
        return 0


def plan_pruning(workspace: Workspace, keep_days: float) -> list[PruneItem]:
    """Runs and artifacts with what keeps them: a run that lives, that a resume would continue, that holds what the
    store does not, or that is young; an artifact that a kept run, or another kept artifact, refers to. Nothing keeps
    what was set aside as damaged. Takes in the journals of all runs first."""
    items, used = list[PruneItem](), dict[str, str]()
    now, only_here = time.time(), _only_here(workspace)
    for run in list_runs(workspace.runs):
        why = _needed(run, only_here)
        if not why and now - run.started_at() < keep_days * 86400:
            why = f"younger than {keep_days:g} days"
        items.append(PruneItem("run", run.id, run.status().state, run.path, _size(run.path), why))
        if why:
            used.update(dict.fromkeys(_digests(run), f"run {run.id}"))
    artifacts = {artifact.digest: artifact for artifact in workspace.list_artifacts()}
    waiting = list(used)
    while waiting:
        artifact = artifacts.get(waiting.pop())
        for digest in artifact.manifest.get("inputs", []) if artifact else ():
            if artifact and digest not in used:
                used[digest] = f"{artifact.kind} {artifact.digest[3:11]}"
                waiting.append(digest)
    for artifact in artifacts.values():
        label = str(artifact.manifest.get("label", ""))
        items.append(
            PruneItem(
                artifact.kind,
                artifact.digest[3:15],
                label,
                artifact.path,
                _size(artifact.path),
                used.get(artifact.digest, ""),
            )
        )
    aside = sorted(workspace.damaged.iterdir()) if workspace.damaged.is_dir() else []
    items += [PruneItem("damaged", path.name, "set aside", path, _size(path), "") for path in aside if path.is_dir()]
    return items


def remove(workspace: Workspace, items: Iterable[PruneItem]) -> list[PruneItem]:
    """Delete the folders of `items`; returns those that stay, because something needs them since they were listed.
    Anything outside the workspace is left alone."""
    root = workspace.root.resolve()
    going = [item for item in items if item.path.resolve().is_relative_to(root)]
    only_here = _only_here(workspace) if any(item.kind == "run" for item in going) else {}
    stay = []
    for item in going:
        if item.kind == "run" and (why := _removed_run(RunFolder(item.path), only_here)):
            stay.append(replace(item, kept_by=why))
        elif item.kind != "run":
            shutil.rmtree(item.path)
    return stay


def _removed_run(run: RunFolder, only_here: Mapping[str, str]) -> str:
    """Delete the folder of a run unless it is needed by now; returns why it stays. Its lock is held meanwhile, so that
    nobody resumes it."""
    if why := _needed(run, only_here):
        return why
    try:
        with run.hold():
            shutil.rmtree(run.path)
    except UsageError:
        return "running"
    return ""
