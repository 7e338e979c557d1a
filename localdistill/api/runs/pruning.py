"""What takes disk in a workspace, what still depends on it, and its removal."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from localdistill.core.disk import require_room
from localdistill.core.errors import LocalDistillError, StoreError, UsageError
from localdistill.safety.files import folder_bytes
from localdistill.safety.journal import sizes
from localdistill.safety.manifest import MANIFEST
from localdistill.stages.outputs import OUTPUTS, CollectOutput, is_due, read_output
from localdistill.workspace.folder import Workspace
from localdistill.workspace.leftovers import leftovers
from localdistill.workspace.recovery import open_store, runs_of
from localdistill.workspace.retiring import close_journals, open_bytes, retire_journals
from localdistill.workspace.run_folder import REQUEST, RunFolder, list_runs

LEFT = "left"
"""The kind of what killed processes left."""


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


def _digests(run: RunFolder) -> set[str]:
    """Every artifact that the run's stages refer to. LocalDistillError when one of them left what cannot be read, or
    what it left is gone."""
    found: set[str] = set()
    for stage, kind in OUTPUTS.items():
        try:
            found |= read_output(run, kind).digests()
        except UsageError:
            if is_due(run, stage):
                raise
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
                if any(sizes(path))}


def _needed(run: RunFolder, only_here: Mapping[str, str]) -> str:
    """Why a run cannot go, whatever its age; empty when it can."""
    status = run.status()
    if status.alive:
        return "running"
    if run.id in only_here:
        return only_here[run.id]
    if status.state != "finished":
        return "can be resumed"
    try:
        unanswered = _unanswered(run)
    except LocalDistillError as error:
        return f"damaged: {error.message}"
    return f"can be resumed: {unanswered:,} questions have no answer" if unanswered else ""


def _unanswered(run: RunFolder) -> int:
    """Questions that a finished run was allowed to leave out. LocalDistillError when that cannot be read."""
    try:
        return read_output(run, CollectOutput).unanswered
    except UsageError:
        if is_due(run, CollectOutput.stage):
            raise
        return 0  # nothing was collected


def plan_pruning(workspace: Workspace, keep_days: float) -> list[PruneItem]:
    """Runs and artifacts with what keeps them: a run that lives, that a resume would continue, that holds what the
    store does not, or that is young; an artifact that a kept run, or another kept artifact, refers to, or may refer to
    where the run's record cannot be read. Nothing keeps what was set aside as damaged. Takes in the journals of all
    runs first; a store that cannot be read keeps all runs with replies, memory that ran out is raised."""
    items, used, unread = list[PruneItem](), dict[str, str](), ""
    now, only_here = time.time(), _only_here(workspace)
    for run in list_runs(workspace.runs):
        why = _needed(run, only_here)
        if not why and now - run.started_at() < keep_days * 86400:
            why = f"younger than {keep_days:g} days"
        status = run.status()
        told = f"{why}; {status.problem}" if why and status.problem else why
        items.append(PruneItem("run", run.id, status.state, run.path, folder_bytes(run.path), told))
        if why:
            try:
                used.update(dict.fromkeys(_digests(run), f"run {run.id}"))
            except LocalDistillError as error:
                unread = f"run {run.id} may need it: {error.message}"
    artifacts = {artifact.digest: artifact for artifact in workspace.list_artifacts()}
    harmed = [artifact for artifact in workspace.all_artifacts() if artifact.digest not in artifacts]
    unread = unread or next((f"the {one.name} may have been made from it, and is damaged" for one in harmed
                             if one.digest in used), "")
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
                folder_bytes(artifact.path),
                used.get(artifact.digest, unread),
            )
        )
    items += [PruneItem(one.kind, one.digest[3:15], f"damaged: {one.damage()}", one.path, folder_bytes(one.path),
                        used.get(one.digest, "")) for one in harmed if (one.path / MANIFEST).exists()]
    items += [PruneItem(LEFT, one.path.name, one.what, one.path, one.size_bytes, one.kept_by)
              for one in leftovers(workspace)]
    aside = sorted(workspace.damaged.iterdir()) if workspace.damaged.is_dir() else []
    items += [PruneItem("damaged", path.name, "set aside", path, folder_bytes(path), "")
              for path in aside if path.is_dir()]
    return items


def remove(workspace: Workspace, items: Iterable[PruneItem]) -> list[PruneItem]:
    """Delete the folders of `items`; returns those that stay, because something needs them since they were listed, or
    they cannot be deleted. What runs paid for is kept in `journals/runs`. Anything outside the workspace is left alone.

    LocalDistillError, before anything is deleted, when it could not be finished: no room for what is kept.
    """
    root = workspace.root.resolve()
    left = {one.path.resolve(): one.kept_by for one in leftovers(workspace)}
    going = [item for item in items if item.path.resolve().is_relative_to(root)]
    only_here = _only_here(workspace) if any(item.kind == "run" for item in going) else {}
    stay, gone = list[PruneItem](), list[PruneItem]()
    with ExitStack() as locks:
        for item in going:
            why = _obstacle(item.path) or (left.get(item.path.resolve(), "") if item.kind == LEFT else "")
            if not why and item.kind == "run":
                why = _held(RunFolder(item.path), only_here, locks)
            (stay if why else gone).append(replace(item, kept_by=why) if why else item)
        runs = [RunFolder(item.path) for item in gone if item.kind == "run"]
        require_room(workspace.root, sum(map(open_bytes, runs)), "the compressed journals of runs that go")
        if runs:
            store = open_store(workspace)
            for run in runs:  # all of them before the first folder goes
                retire_journals(workspace, store, run)
        for item in gone:
            _delete(item.path)
    close_journals(workspace)
    return stay


def _held(run: RunFolder, only_here: Mapping[str, str], locks: ExitStack) -> str:
    """Take the lock of a run that goes, so that nobody resumes it; why it stays, if it does."""
    if why := _needed(run, only_here):
        return why
    try:
        locks.enter_context(run.hold())
    except UsageError:
        return "running"
    return ""


def _obstacle(path: Path) -> str:
    """Why a folder could not be deleted to its end; empty where nothing is in the way."""
    if path.is_symlink():
        return "it is a link: remove what it leads to by hand"
    folders = [path.parent, *([path, *(below for below in path.rglob("*") if below.is_dir())] if path.is_dir() else [])]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"this user may not delete what is in {folder}"
        if folder != path.parent and folder.is_mount():
            return f"{folder} is another disk"
    return ""


def _delete(path: Path) -> None:
    """What names a folder a run or an artifact goes first: one whose removal is interrupted is a rest, not a damaged
    one."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for name in (REQUEST, MANIFEST):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path)
