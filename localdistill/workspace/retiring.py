"""The folder of a run can go; what the run paid for cannot. Its journals move to the journals of the workspace,
compressed, and the store knows them there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from localdistill.core.errors import UsageError
from localdistill.safety.closing import close_lines
from localdistill.safety.files import publish, sync_folder
from localdistill.safety.journal import parts_of, sizes
from localdistill.safety.written_size import side_of
from localdistill.spending.reading import read_ledger
from localdistill.store import Store
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import RunFolder, list_runs


def open_bytes(run: RunFolder) -> int:
    """Bytes of a run's journals that are not compressed yet: closing them needs at most as much room."""
    return sizes(run.journal)[1] + sizes(run.quarantine)[1]


def retire_journals(workspace: Workspace, store: Store, run: RunFolder) -> Path | None:
    """Move what is to be kept of `run`, whose lock the caller holds, out of its folder; returns where it is now, None
    where there was nothing. Killed in between, it can be done again: what was moved is read where it is."""
    for journal in (run.journal, run.quarantine):
        close_lines(journal)
    kept = [path for path in _kept_of(run) if path.exists()]
    if not kept:
        return None
    target = _free_folder(workspace.retired, run.id)
    target.mkdir(parents=True)
    for path in kept:
        _move(path, target / path.name)
    sync_folder(target)
    store.follow_journal(run.journal, target / run.journal.name)
    return target


def _kept_of(run: RunFolder) -> Iterator[Path]:
    """Replies, readable or not; and where the run paid, the ledger and what else came with the replies."""
    yield from parts_of(run.journal)
    yield from parts_of(run.quarantine)
    book = read_ledger(run.calls, run.proof_of_calls)
    if book.problem or book.least:
        yield from (run.calls, side_of(run.calls), run.path / "logprobs")


def _free_folder(retired: Path, name: str) -> Path:
    return next(path for number in count(1)
                if not (path := retired / (name if number == 1 else f"{name}~{number}")).exists())


def _move(path: Path, target: Path) -> None:
    """A rename where that can be; a copy that is whole before the original goes, where runs lie on another disk."""
    try:
        os.replace(path, target)
        return
    except OSError:
        partial = target.with_name(target.name + ".partial")
        if path.is_dir():
            shutil.copytree(path, partial)
        else:
            shutil.copyfile(path, partial)
    publish(partial, target)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def close_journals(workspace: Workspace) -> None:
    """Compress the journals of runs that died: one that ends by itself does so. What cannot be written stays as it
    is."""
    for run in list_runs(workspace.runs):
        if sizes(run.journal)[1] and not run.is_alive():
            try:
                with run.hold():
                    run.close_journal()
            except (OSError, UsageError):
                continue
