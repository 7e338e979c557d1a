"""Everything that a workspace holds, read to the last byte and compared with its checksums, whatever was read before:
artifacts, files of runs, journals. Changes nothing, loads no model; what is damaged is made again by a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from localdistill.core.errors import LocalDistillError, StoreError, StoreLocked
from localdistill.core.events import Cancel
from localdistill.core.explaining import reason_of
from localdistill.engines.wire.batch.states import amount, read_state
from localdistill.safety import journal
from localdistill.safety.files import folder_bytes
from localdistill.safety.frames import Reading
from localdistill.safety.journal import CLOSED, is_torn, lost_end
from localdistill.spending.reading import read_ledger
from localdistill.stages.outputs import OUTPUTS, is_due, read_output
from localdistill.stages.rechecking import probe_files, read_probe
from localdistill.workspace.folder import Artifact, Workspace
from localdistill.workspace.logprobs import FOLDER, all_logprobs
from localdistill.workspace.quarantine import quarantined
from localdistill.workspace.recovery import lost_batches, lost_in_journals
from localdistill.workspace.run_folder import (
    EVENTS,
    LOCK,
    QUARANTINE,
    RUN_JOURNAL,
    STAGES,
    STATUS,
    RunFolder,
    list_runs,
)

_Look = Callable[[], None]
_REBUILD = "`localdistill store rebuild` makes it again of what the journals hold"
_ONLY_STORED = "what is gone is in the store only: `localdistill store check` says how much; keep a copy of the store"
_NOT_READ = (LOCK, "log.txt")
"""Files of a run that nothing is taken from."""


@dataclass(frozen=True)
class Verified:
    """One artifact, run or journal."""

    kind: str
    """`run`, `journal`, `batch`, `probe`, or the kind of an artifact."""
    name: str
    """Id of a run, else the beginning of a digest or a file's name."""
    label: str
    state: Literal["whole", "damaged", "missing"]
    size_bytes: int = 0
    """What was read of it."""
    problems: tuple[str, ...] = ()
    """Everything that is not what was written, in words."""
    hint: str = ""
    """What brings it back; empty where nothing is wrong."""


def verify_workspace(workspace: Workspace, cancel: Cancel | None = None) -> list[Verified]:
    """Every run, artifact and journal of the workspace, batches under way and reports of probes. Of the store only how
    far it has read each journal, so that what is gone from one is missed: all else is compared by `check_store`.
    Cancelled when told to stop; StoreLocked when somebody keeps the store."""
    look = (cancel or Cancel()).check
    lost, unread = _lost_in_journals(workspace)
    runs = list_runs(workspace.runs)
    wanted = _referred(runs)
    artifacts = workspace.all_artifacts()
    found = [_run(run, look) for run in runs]
    found += [_artifact(artifact, wanted.get(artifact.digest, ""), look) for artifact in artifacts]
    found += _missing(wanted, {artifact.digest for artifact in artifacts})
    found += unread
    found += [_journal(path, look, lost.pop(path, "")) for path in workspace.journals()
              if path.parent.parent != workspace.runs]
    found += [_lost_journal(path, why) for path, why in lost.items()]
    found += [_small("batch", path, read_state, look) for path in sorted(workspace.batches.glob("*.json"))]
    found += [one for run in runs for one in _lost_batches(workspace, run)]
    found += [_small("probe", path, read_probe, look) for path in probe_files(workspace)]
    return found


def verify_run(workspace: Workspace, run_id: str = "last", cancel: Cancel | None = None) -> list[Verified]:
    """A run and every artifact that it refers to, with what those were made from. UsageError when there is no such
    run."""
    look, run = (cancel or Cancel()).check, RunFolder.open(workspace.runs, run_id)
    known = {artifact.digest: artifact for artifact in workspace.all_artifacts()}
    wanted, waiting, found = _referred([run]), list(_referred([run])), [_run(run, look)]
    seen = set(waiting)
    while waiting:
        digest = waiting.pop(0)
        if artifact := known.get(digest):
            found.append(_artifact(artifact, run.id, look))
            more = [one for one in _inputs(artifact) if one not in seen]
            seen.update(more)
            waiting += more
    return found + _missing(wanted, set(known)) + _lost_batches(workspace, run)


def _referred(runs: list[RunFolder]) -> dict[str, str]:
    """The digests of which the stages of runs speak, each with the newest run that does."""
    found: dict[str, str] = {}
    for run in runs:
        for kind in OUTPUTS.values():
            try:
                found |= dict.fromkeys(read_output(run, kind).digests(), run.id)
            except LocalDistillError:
                continue  # what the run itself cannot say is said of the run
    return found


def _inputs(artifact: Artifact) -> tuple[str, ...]:
    try:
        return artifact.inputs
    except LocalDistillError:
        return ()


def _missing(wanted: dict[str, str], there: set[str]) -> list[Verified]:
    return [Verified("artifact", digest[3:15], "", "missing", 0, (f"run {run} refers to it",),
                     f"localdistill resume {run} makes it again")
            for digest, run in wanted.items() if digest not in there]


def _artifact(artifact: Artifact, run: str, look: _Look) -> Verified:
    problems = tuple(artifact.damages(look, afresh=True))
    hint = (f"localdistill resume {run} sets it aside and makes it again" if run else
            "no run that is here refers to it: localdistill runs prune removes it")
    label = artifact.name.removeprefix(f"{artifact.kind} ").strip("'") if not problems else ""
    return Verified(artifact.kind, artifact.digest[3:15], label, "damaged" if problems else "whole",
                    folder_bytes(artifact.path), problems, hint if problems else "")


def _run(run: RunFolder, look: _Look) -> Verified:
    problems = tuple(_run_problems(run, look))
    status = run.status()
    unread = (path for name in _NOT_READ if (path := run.path / name).is_file())
    size = folder_bytes(run.path) - sum(path.stat().st_size for path in unread)
    return Verified("run", run.id, status.state, "damaged" if problems else "whole", size, problems,
                    _hint_of(run) if problems else "")


def _hint_of(run: RunFolder) -> str:
    try:
        run.recipe()
    except LocalDistillError as error:
        return error.hint
    return f"localdistill resume {run.id} makes again what its stages leave; its record of the past stays as it is"


def _run_problems(run: RunFolder, look: _Look) -> Iterator[str]:
    """All that is wrong with the files of a run's folder."""
    checks: list[Callable[[], object]] = [run.request, run.recipe, run.text]
    checks += [partial(_output, run, stage) for stage in OUTPUTS]
    checks += [partial(run.lists.read, name) for name in run.lists.names()]
    yield from dict.fromkeys(filter(None, (_why(check, run.id, look) for check in checks)))
    if (said := run.status().problem) and STATUS in said:
        yield said.rpartition("; ")[2]
    if lost := run.damaged_lines():
        yield f"{lost:,} lines of {EVENTS} are lost"
    yield from _journal_problems(run.journal, look, is_written=run.is_alive())
    if why := run.lost_since(f"{RUN_JOURNAL}{CLOSED}", look):
        yield f"{RUN_JOURNAL}{CLOSED} {why}"
    if why := read_ledger(run.calls, run.proof_of_calls).problem:
        yield f"the ledger of calls is not whole: {why}"
    try:
        for _ in all_logprobs(run.path / FOLDER):
            look()
    except LocalDistillError as error:
        yield error.message
    try:
        _, lost_bodies = quarantined(run)
    except OSError as error:
        lost_bodies = f"{QUARANTINE} cannot be read: {reason_of(error)}"
    if lost_bodies:
        yield lost_bodies


def _why(check: Callable[[], object], run_id: str, look: _Look) -> str:
    look()
    try:
        check()
    except LocalDistillError as error:
        return error.message.removeprefix(f"the recipe of run {run_id} cannot be read: ").replace(
            f" of run {run_id}", "")
    return ""


def _output(run: RunFolder, stage: str) -> None:
    if (run.path / STAGES / f"{stage}.json").exists() or is_due(run, stage):
        read_output(run, OUTPUTS[stage])


def _small(kind: str, path: Path, read: Callable[[Path], object], look: _Look) -> Verified:
    """A file that is read as a whole."""
    look()
    try:
        read(path)
    except LocalDistillError as error:
        return Verified(kind, path.name, "", "damaged", 0, (error.message,), error.hint)
    return Verified(kind, path.name, "", "whole", path.stat().st_size)


def _lost_batches(workspace: Workspace, run: RunFolder) -> list[Verified]:
    """The batches of a run that nothing remembers."""
    return [Verified("batch", f"{one.batch}.json", run.id, "missing", 0,
                     (f"it is gone, and the ledger of calls has {amount(one.calls)} of it under way at {one.of}",),
                     f"localdistill resume {run.id} counts it as spent and asks its questions again; what came of it "
                     "is still to be seen at the provider")
            for one in lost_batches(workspace, run)]


def _lost_in_journals(workspace: Workspace) -> tuple[dict[Path, str], list[Verified]]:
    """The journals that do not hold what the store has read in them, each with what is wrong; and the store, where it
    cannot be read."""
    try:
        return lost_in_journals(workspace), []
    except StoreLocked:
        raise
    except StoreError as error:
        name = workspace.store_path.name
        return {}, [Verified("store", name, "", "damaged", 0, (error.message,), error.hint or _REBUILD)]


def _lost_journal(path: Path, why: str) -> Verified:
    return Verified("journal", path.name, path.parent.name, "missing", 0, (f"{path.name} {why}",), _ONLY_STORED)


def _journal(path: Path, look: _Look, lost: str) -> Verified:
    """lost: what the store misses in it."""
    problems = tuple(_journal_problems(path, look))
    if lost and not problems:
        return Verified("journal", path.name, path.parent.name, "damaged", sum(journal.sizes(path)),
                        (f"{path.name} {lost}",), _ONLY_STORED)
    hint = "localdistill store check says what of it the store has" if problems else ""
    return Verified("journal", path.name, path.parent.name, "damaged" if problems else "whole",
                    sum(journal.sizes(path)), problems, hint)


def _journal_problems(path: Path, look: _Look, is_written: bool = False) -> Iterator[str]:
    """is_written: somebody appends to it now, and may be in the middle of a line."""
    reading = Reading()
    try:
        for count, _ in enumerate(journal.read(path, 0, reading)):
            if count % 1000 == 0:
                look()
        gone = lost_end(path)
    except OSError as error:
        gone = f"cannot be read: {reason_of(error)}"
    if reading.damaged_lines:
        yield f"{reading.damaged_lines:,} lines of {path.name} are lost"
    elif not is_written and is_torn(path):
        yield f"{path.name} ends in the middle of a line"
    if gone:
        yield f"{path.name} {gone}"
