"""What takes disk in a workspace, what still depends on it, and its removal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localdistill.run_folder import RunFolder, list_runs
from localdistill.workspace import Workspace


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
    """Every artifact digest that the run's stages refer to."""
    found: set[str] = set()

    def visit(value: object) -> None:
        if isinstance(value, str) and value.startswith("b2:"):
            found.add(value)
        elif isinstance(value, dict):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, list):
            for inner in value:
                visit(inner)

    for path in (run.path / "stages").glob("*.json"):
        visit(json.loads(path.read_text()))
    return found


def plan_pruning(workspace: Workspace, keep_days: float) -> list[PruneItem]:
    """Runs and artifacts with what keeps them: a run that lives, can be resumed or is young; an artifact that a kept
    run, or another kept artifact, refers to. Nothing keeps what was set aside as damaged."""
    items, used = list[PruneItem](), dict[str, str]()
    now = time.time()
    for run in list_runs(workspace.runs):
        status = run.status()
        young = now - run.started_at() < keep_days * 86400
        why = "running" if status.alive else f"younger than {keep_days:g} days" if young else ""
        why = why or ("can be resumed" if status.state in ("partial", "paused", "cancelled", "interrupted") else "")
        items.append(PruneItem("run", run.id, status.state, run.path, _size(run.path), why))
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


def remove(workspace: Workspace, items: Iterable[PruneItem]) -> None:
    """Delete the folders of `items`; anything outside the workspace is refused."""
    root = workspace.root.resolve()
    for item in items:
        if item.path.resolve().is_relative_to(root):
            shutil.rmtree(item.path)
