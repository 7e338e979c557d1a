"""What processes that were killed left on disk and nothing uses: half-written files and folders. A workspace is looked
through by names; nothing is opened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill.safety.files import folder_bytes, is_locked
from localdistill.safety.journal import parts_of
from localdistill.safety.manifest import MANIFEST
from localdistill.workspace.folder import BUILDING, Workspace
from localdistill.workspace.logprobs import FOLDER as LOGPROBS
from localdistill.workspace.run_folder import REQUEST, STAGES, START_TIMEOUT_S, RunFolder, RunStatus
from localdistill.workspace.run_listing import RunListing

_OLD_S = 3600.0
"""A file that somebody writes was changed within this time."""
PARTIAL = ".partial"
_FOLDERS = frozenset({STAGES, LOGPROBS})
"""Those in the folder of a run."""
_Names = dict[str, list[str]]
"""Folder of a run -> what is in it. There may be very many runs: each is listed once, and paths are texts."""


@dataclass(frozen=True)
class Leftover:
    """Something that a killed process left."""

    path: Path
    what: str
    kept_by: str = ""
    """Why it may still be wanted; empty when nothing wants it."""

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        if not self.path.is_dir():
            return self.path.stat().st_size if self.path.exists() else 0
        return folder_bytes(self.path)


def leftovers(workspace: Workspace, runs: Sequence[RunStatus] | None = None) -> list[Leftover]:
    """All of them. runs: the status of every run, where somebody has just looked."""
    if runs is None:
        runs = RunListing(workspace.runs).look()
    open_run = next((run.run_id for run in runs if run.state not in ("finished", "starting")), "")
    top = str(workspace.runs)
    names = {(folder := f"{top}/{name}"): _names_in(folder) for name in sorted(_names_in(top))}
    found = [*_of_artifacts(workspace, open_run), *_of_runs(names)]
    if not any(run.alive for run in runs):
        found += [Leftover(path, "half a file") for path in _half_files(workspace, names)]
    return found


def _of_artifacts(workspace: Workspace, open_run: str) -> Iterator[Leftover]:
    """Folders that artifacts are built in, and those whose removal was interrupted."""
    for folder in sorted(workspace.artifacts.glob("*/*")):
        if not folder.is_dir():
            continue
        if folder.name.startswith(BUILDING):
            if not is_locked(folder.with_name(f".lock-{folder.name.removeprefix(BUILDING)}")):
                yield Leftover(folder, f"half {_with_article(folder.parent.name)}",
                               f"localdistill resume {open_run} may go on with it" if open_run else "")
        elif not folder.name.startswith(".") and not (folder / MANIFEST).exists() and _is_old(folder):
            yield Leftover(folder, f"rest of {_with_article(folder.parent.name)}")


def _of_runs(names: _Names) -> Iterator[Leftover]:
    """Folders of runs that were never begun, or whose removal was interrupted."""
    for run in (RunFolder(path) for path, held in names.items() if REQUEST not in held and os.path.isdir(path)):
        if run.is_alive():
            continue
        replies = any(part.exists() for journal in (run.journal, run.quarantine) for part in parts_of(journal))
        if time.time() - run.path.stat().st_mtime > START_TIMEOUT_S:
            yield Leftover(run.path, "rest of a run", "it holds replies" if replies else "")


def _half_files(workspace: Workspace, names: _Names) -> Iterator[Path]:
    """Files that were to be renamed when they were whole."""
    patterns = ("*.partial", "journals/**/*.partial", "batches/*.partial", "teachers/*.partial",
                f"{workspace.store_path.name}.rebuilding*")
    for pattern in patterns:
        yield from (path for path in sorted(workspace.root.glob(pattern)) if _is_old(path))
    for run, held in names.items():
        yield from (path for path in _half_files_of(run, held) if _is_old(path))


def _half_files_of(run: str, held: list[str]) -> Iterator[Path]:
    """In the folder of a run and in those in it."""
    for name in held:
        if name.endswith(PARTIAL):
            yield Path(run, name)
    for folder in _FOLDERS.intersection(held):
        yield from (Path(run, folder, name) for name in _names_in(f"{run}/{folder}") if name.endswith(PARTIAL))


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > _OLD_S


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"
