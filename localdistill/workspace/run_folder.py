"""The folder of one run and the files in it. Everybody who starts, watches or ends a run goes through this file;
nothing here starts a process. Every file carries a checksum (`core.seals`), but the two that the request holds the
checksums of: what is not what was written is said, never taken for true.

    recipe.toml      as given                     events.jsonl   facts, appended
    resolved.json    the checked recipe           status.json    where it is now, replaced
    request.json     stages asked for, base path  log.txt        everything else that processes say
    stages/          what each stage left         lock           held with flock while the run lives
    replies.jsonl    the journal (.zst: closed;   cancel         exists once somebody asked to stop
                     .size: written up to where)
    calls.jsonl      what calls cost (and .size)  quarantine.jsonl  bodies that could not be read
    logprobs/        log-probabilities, if asked  pause          exists while work stands still
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import UsageError, nearest
from localdistill.core.events import Event, Measured
from localdistill.core.explaining import reason_of
from localdistill.core.seals import NOT_WRITTEN, sealed, sha256_of, unsealed, why_unread
from localdistill.safety.closing import close_lines
from localdistill.safety.files import atomic_write_bytes, atomic_write_text, is_locked
from localdistill.safety.frames import Reading
from localdistill.safety.journal import CLOSED, lost_end, read_lines
from localdistill.safety.written_size import side_of
from localdistill.workspace.ended_files import KEY as ENDED_SUMS
from localdistill.workspace.ended_files import missed, sums_of
from localdistill.workspace.facts_file import facts_in, lost_lines, state_at_end
from localdistill.workspace.id_lists import IdLists

if TYPE_CHECKING:
    from localdistill.recipe import Recipe

_COST = re.compile(rb'(?<!\\)"cost_usd":(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
"""The cost in a journal's line; inside a text every quote has a backslash in front."""
RUN_JOURNAL = "replies.jsonl"
QUARANTINE = "quarantine.jsonl"
GIVEN, RESOLVED, REQUEST = "recipe.toml", "resolved.json", "request.json"
EVENTS, STATUS, STAGES, LOCK = "events.jsonl", "status.json", "stages", "lock"
GROW = (EVENTS, f"{RUN_JOURNAL}{CLOSED}", QUARANTINE)
"""Files of which only the end ever changes; not the ledger of calls, which keeps its own sums."""
ENDED = ("finished", "failed", "cancelled", "partial", "paused")
"""States that a run ends in by itself."""
HUB = "hub"
"""The key of the request that holds the names of models of the hub -> the same names at their commits."""
_SUMS = "sums"
"""The key of the request that holds file -> checksum."""
_RUN = "run"
"""The key of the status that holds whose it is."""
_OF_A_RUN = (REQUEST, RESOLVED, EVENTS, STATUS, RUN_JOURNAL, f"{RUN_JOURNAL}{CLOSED}", STAGES)
_START_AGAIN = "start the recipe again: what is stored is not asked again"
EVENTS_FD_VARIABLE = "LOCALDISTILL_EVENTS_FD"
"""Environment variable that tells a stage's process where its events go."""
AFTER_DEATH = "after-death"
"""Tells a stage's process that the one before it was ended by the system, most likely for want of memory."""
START_TIMEOUT_S = 30.0
"""Within this time after its folder was made, a run has a process."""
_TRIES, _MOMENT_S = 5, 0.01
_FOLDER = re.compile(r"(?!\.)[^/\0]+")
"""The name of a folder here, not a way to somewhere else."""


@dataclass(frozen=True)
class RunStatus:
    """Where a run is. `alive` is the lock, not a process number."""

    run_id: str
    recipe: str
    state: str
    """starting, running, finished, failed, cancelled, partial, paused, interrupted (it died and can be resumed), or
    not started (its folder was made, and no process ever began)."""
    stage: str
    alive: bool
    started_at: float
    updated_at: float
    """When the state was last written; when it never was, when the run was started."""
    data: Mapping[str, Any]
    """The raw status: label, whose it is (arm, seed, contestant), done, total, unit, counters, tail, message, hint,
    exit_code."""
    problem: str = ""
    """Which of the files that this is read from is damaged, in words; empty when none is."""


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path | str) -> None:
        self._text = os.fspath(path)
        self.id = os.path.basename(self._text)
        """The run's name: its folder's."""

    @cached_property
    def path(self) -> Path:
        """The folder. A listing of thousands of runs does without: a `Path` takes longer than the file behind it."""
        return Path(self._text)

    @classmethod
    def create(cls, runs: Path, recipe: Recipe, text: str, request: Mapping[str, Any]) -> RunFolder:
        """A new folder, named by the recipe and the next free number."""
        from localdistill.recipe import dump_recipe

        runs.mkdir(parents=True, exist_ok=True)
        taken = [path.name for folder in (runs, runs.parent / "journals" / "runs")
                 for path in folder.glob(f"{recipe.name}-*")]  # runs whose folder was removed keep their names
        number = 1 + max((int(end) for name in taken if (end := name.rsplit("-", 1)[1]).isdigit()), default=0)
        while True:
            path = runs / f"{recipe.name}-{number}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
        files = {GIVEN: text.encode("utf-8", "surrogatepass"), RESOLVED: dump_recipe(recipe).encode()}
        sums = {name: sha256_of(data) for name, data in files.items()}
        atomic_write_text(path / REQUEST, sealed({**request, _SUMS: sums}))
        for name, data in files.items():
            atomic_write_bytes(path / name, data)
        (path / STAGES).mkdir()
        return cls(path)

    @classmethod
    def open(cls, runs: Path, run_id: str) -> RunFolder:
        """The run called `run_id`; `last` is the newest."""
        if _FOLDER.fullmatch(run_id) and is_run(f"{runs}/{run_id}"):  # there may be very many
            return cls(runs / run_id)
        known = list_runs(runs)
        if run_id == "last" and known:
            return known[-1]
        raise UsageError(
            f"there is no run '{run_id}' here{nearest(run_id, [folder.id for folder in known])}",
            "`localdistill runs` lists them; --workspace picks another folder",
        )

    def recipe(self) -> Recipe:
        """The checked recipe, its models of the hub in the revisions that this run began with; UsageError when its file
        is gone or damaged."""
        from localdistill.recipe import read_resolved  # to list runs needs none of what reading a recipe needs
        from localdistill.recipe.hub_models import with_models

        try:
            resolved = read_resolved(self._as_written(RESOLVED).decode())
            return with_models(resolved, self.request().get(HUB, {}))
        except (OSError, ValueError) as error:
            raise self._unread(RESOLVED, error) from None

    def text(self) -> str:
        """The recipe as it was given; UsageError when its file is gone or damaged."""
        try:
            return self._as_written(GIVEN).decode()
        except (OSError, ValueError) as error:
            raise self._unread(GIVEN, error) from None

    def _unread(self, name: str, error: Exception) -> UsageError:
        why = reason_of(error)
        return UsageError(f"the recipe of run {self.id} cannot be read: "
                          f"{why if why.startswith(name) else f'{name}: {why}'}", _START_AGAIN)

    def _as_written(self, name: str) -> bytes:
        """One of the two files that the request holds the checksums of. ValueError when it is not what was written."""
        data = (self.path / name).read_bytes()
        wanted = self.request().get(_SUMS, {}).get(name)
        if wanted is not None and wanted != sha256_of(data):
            raise ValueError(f"{name} {NOT_WRITTEN}")
        return data

    def request(self) -> dict[str, Any]:
        """What was asked for: `stages`, and `base`, the folder that relative paths start from. UsageError when the file
        is gone or damaged."""
        try:
            data = unsealed(self._read(REQUEST))
            if isinstance(data["stages"], list) and isinstance(data["base"], str):
                return data
            why = "names no stages"
        except OSError as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        except (ValueError, KeyError, RecursionError) as error:
            why = why_unread(error)
        raise UsageError(f"{REQUEST} of run {self.id} {why}: it is damaged", _START_AGAIN)

    def started_at(self) -> float:
        """When the folder was made, seconds since the epoch."""
        return self._began()[0]

    def _began(self) -> tuple[float, str]:
        """When that was, and why it is not surely so."""
        unknown = ""
        try:
            return os.stat(f"{self._text}/{REQUEST}").st_mtime, unknown
        except FileNotFoundError:
            pass  # a request that is missing is said by whoever reads it
        except OSError as error:
            unknown = f"when it was started is not known: {REQUEST}: {reason_of(error)}"
        with contextlib.suppress(OSError):
            return os.stat(self._text).st_mtime, unknown
        return 0.0, unknown

    def _read(self, name: str) -> bytes:
        """A small file. Listings read those of thousands of runs: so it takes half as long as by a file object."""
        handle = os.open(f"{self._text}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = part = os.read(handle, BORDERS.small_file_bytes)
            while len(part) == BORDERS.small_file_bytes:
                data += (part := os.read(handle, BORDERS.small_file_bytes))
            return data
        finally:
            os.close(handle)

    def is_alive(self) -> bool:
        """True while a supervisor holds the lock."""
        return is_locked(f"{self._text}/{LOCK}")

    def holder(self) -> int | None:
        """The number of the process that holds the lock, as that process wrote it there; None while nobody holds it, or
        only somebody who starts the run."""
        try:
            said = (self.path / LOCK).read_bytes()
        except OSError:
            return None
        return int(said) if said.isdigit() and self.is_alive() else None

    def hold(self) -> IO[bytes]:
        """Take the lock for as long as the returned file is open; UsageError when somebody else has it. What the last
        holder wrote there is gone; who holds it for long writes its process number."""
        handle = open(self.path / LOCK, "ab")  # noqa: SIM115 - it stays open as long as the run lives
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                handle.truncate(0)
                return handle
            except BlockingIOError:
                time.sleep(_MOMENT_S)  # somebody may only be looking whether the run lives
        handle.close()
        raise UsageError(f"run {self.id} is already running", f"localdistill attach {self.id}")

    def status(self) -> RunStatus:
        """Where the run is. A damaged or missing status file is no error: the run starts, was interrupted, or nobody
        ever started it; or its last fact says how it ended. What is damaged is said in `problem`."""
        alive = self.is_alive()
        data, problem = self._read_status()
        if not data and not problem and not alive and state_at_end(self.path / EVENTS):
            problem = f"{STATUS} is missing"
        state = str(data.get("state", "starting"))
        if not alive and state in ("running", "starting"):
            had_process = data or any((self.path / name).exists() for name in (LOCK, EVENTS))
            ended = state_at_end(self.path / EVENTS) if not data else ""
            state = ended or ("interrupted" if had_process else self._without_a_process())
        elif alive and state not in ("running", "starting"):
            # What it says is how it ends, or how it ended before: it can be taken up once it is gone.
            held = self.holder() is not None
            alive = held or self.is_alive()
            state = "running" if held else "starting" if alive else state
        started_at, unknown = self._began()
        return RunStatus(
            self.id,
            str(data.get("recipe", self.id.rsplit("-", 1)[0])),
            state,
            str(data.get("stage", "")),
            alive,
            started_at,
            _number(data.get("updated_at")) or started_at,
            data,
            "; ".join(filter(None, (self._request_problem() or unknown, problem))),
        )

    def _read_status(self) -> tuple[dict[str, Any], str]:
        """What status.json says, and what is wrong with it. While a run begins, and between runs, there is none."""
        try:
            data = unsealed(self._read(STATUS))
            if data.get(_RUN, self.id) != self.id:
                return {}, f"{STATUS} belongs to another run"
            return data, ""
        except FileNotFoundError:
            return {}, ""
        except (OSError, ValueError, RecursionError) as error:
            return {}, f"{STATUS} {why_unread(error)}"

    def _request_problem(self) -> str:
        try:
            self.request()
        except UsageError as error:
            return error.message.replace(f" of run {self.id}", "").removesuffix(": it is damaged")
        return ""

    def _without_a_process(self) -> str:
        """The state of a folder that no process has taken: it was just made, or who made it died then."""
        return "starting" if time.time() - self.started_at() < START_TIMEOUT_S else "not started"

    def write_status(self, data: Mapping[str, Any]) -> None:
        """Replace status.json (not synced: it is only a view)."""
        partial = self.path / f"{STATUS}.partial"
        partial.write_text(sealed({**data, _RUN: self.id, "updated_at": time.time()}))
        os.replace(partial, self.path / STATUS)

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Facts from byte `offset` on, each with the offset behind it; damaged lines are passed over."""
        return facts_in(self.path / EVENTS, offset)

    def damaged_lines(self) -> int:
        """How many lines of events.jsonl are lost (see `facts.lost_lines`), and at least one where a run that ended
        does not say so there, or the file is not what it was then."""
        lost = lost_lines(self.path / EVENTS) or bool(self.lost_since(EVENTS))
        is_over = self._read_status()[0].get("state") in ENDED and not self.is_alive()
        return lost + (is_over and not lost and not state_at_end(self.path / EVENTS))

    def output(self, stage: str) -> bytes:
        """The file that `stage` left for later stages, which `stages.outputs` reads; UsageError when it has not run."""
        try:
            return (self.path / STAGES / f"{stage}.json").read_bytes()
        except FileNotFoundError:
            raise UsageError(
                f"run {self.id} has no result of the stage '{stage}'", f"localdistill resume {self.id}"
            ) from None

    def write_output(self, stage: str, data: bytes) -> None:
        """Keep the file that `stage` leaves for later stages, with the checksums of the lists that it wrote."""
        atomic_write_text(self.path / STAGES / f"{stage}.json", sealed({**unsealed(data), **self.lists.handed_over()},
                                                                       indent=1))

    def write_ids(self, name: str, ids: Sequence[str]) -> None:
        """Keep a list of ids, one a line below their checksum."""
        self.lists.write(name, ids)

    def ids(self, name: str) -> list[str]:
        """The list of ids kept under `name`; none where the run has not come to it. LocalDistillError when it is gone
        or not what was written."""
        return self.lists.read(name)

    def has_ids(self, name: str) -> bool:
        """True when a list of ids is kept under `name`, be it an empty one, or was and is gone."""
        return self.lists.has(name)

    @cached_property
    def lists(self) -> IdLists:
        """All its lists of ids."""
        return IdLists(self.path / STAGES, self.id)

    @property
    def journal(self) -> Path:
        """The journal of acknowledged replies."""
        return self.path / RUN_JOURNAL

    def close_journal(self) -> None:
        """Compress the journal; its lock is held by the caller. What cannot be written stays as it is."""
        with contextlib.suppress(OSError):
            close_lines(self.journal)

    def held(self, has_ended: bool = True) -> dict[str, Any]:
        """What a status says of the files that only grow. has_ended: nobody adds to them any more."""
        return {ENDED_SUMS: sums_of(self._text, GROW, has_ended)}

    def lost_since(self, name: str, tick: Callable[[], None] = lambda: None) -> str:
        """What is wrong with one of the files that only grow, to stand behind its name; empty when it begins with what
        it held when the status was written last, or nobody knows that."""
        return missed(self.path, name, self._read_status()[0], tick)

    def lost(self, tick: Callable[[], None] = lambda: None) -> Iterator[str]:
        """What of the files that only grow is gone, in words, whatever is left of them being whole. A run that goes on
        knows this no more: it keeps what is there now."""
        for name in GROW:
            if why := self.lost_since(name, tick):
                yield f"{name} {why}"
        try:
            why = lost_end(self.journal)
        except OSError as error:
            why = f"cannot be read: {reason_of(error)}"
        if why:
            yield f"{RUN_JOURNAL} {why}"

    def end_size_of_journal(self) -> None:
        """Forget up to where the journal was written: a last status says more of it. Without one it stays known."""
        if ENDED_SUMS in self._read_status()[0]:
            side_of(self.journal).unlink(missing_ok=True)

    @property
    def calls(self) -> Path:
        """The ledger of paid calls."""
        return self.path / "calls.jsonl"

    def proof_of_calls(self) -> str:
        """What shows that paid calls may have been made, should their ledger be silent: the run's request says that it
        had one; in older runs a paid reply, what stages said they had spent, or a batch at a provider. Empty when
        nothing does."""
        try:
            if self.request().get("ledger"):
                return "it is gone"
        except UsageError:
            return "it is gone, and what the run was asked for cannot be read"
        for event, _ in self.events():
            if isinstance(event, Measured) and event.name == "spent_usd" and event.value > 0:
                return f"the run said that it had spent ${event.value:.4f}"
        lines = read_lines(self.journal, 0, Reading())
        if any(float(found[1]) > 0 for line, _ in lines for found in _COST.finditer(line)):
            return "replies that were paid for are in the run's journal"
        mark = json.dumps(f"{self.id}/{self.calls.name}").encode()
        batches = (self.path.parent.parent / "batches").glob("*.json")
        return "a batch of this run is remembered" if any(mark in batch.read_bytes() for batch in batches) else ""

    @property
    def quarantine(self) -> Path:
        """Bodies that could not be read."""
        return self.path / QUARANTINE

    def amend_request(self, **changes: Any) -> None:
        """Change what was asked for, before a resume."""
        atomic_write_text(self.path / REQUEST, sealed({**self.request(), **changes}))

    @property
    def log(self) -> Path:
        """Where processes of the run write what nobody asked for."""
        return self.path / "log.txt"

    def cancel_asked(self) -> bool:
        """True once somebody asked to stop."""
        return (self.path / "cancel").exists()

    def ask_cancel(self) -> bool:
        """Ask to stop at the next safe point; True when it had been asked before."""
        before = self.cancel_asked()
        (self.path / "cancel").touch()
        return before

    def clear_cancel(self) -> None:
        """Forget the wish to stop, before a resume."""
        (self.path / "cancel").unlink(missing_ok=True)

    def pause_asked(self) -> bool:
        """True while the supervisor lets work stand still."""
        return (self.path / "pause").exists()

    def set_pause(self, wanted: bool) -> None:
        """Ask the stage to stop at its next safe point, from where it is begun again later; or forget that."""
        if wanted:
            (self.path / "pause").touch()
        else:
            (self.path / "pause").unlink(missing_ok=True)

    def stop_asked(self) -> bool:
        """Whether the stage is to stop at its next safe point."""
        return self.cancel_asked() or self.pause_asked()


def _number(value: object) -> float:
    """`value` as a number that one can reckon with; 0 for what is none."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) else 0.0


def list_runs(runs: Path) -> list[RunFolder]:
    """All runs of a workspace, oldest first: every folder that holds anything of a run. Of those that began in the same
    moment the one with the higher number is the newer."""
    if not runs.is_dir():
        return []
    found = [RunFolder(runs / name) for name in os.listdir(runs) if is_run(f"{runs}/{name}")]
    return sorted(found, key=lambda folder: (folder.started_at(), len(folder.id), folder.id))


def is_run(path: str) -> bool:
    """True for a folder that holds anything of a run."""
    return any(os.path.lexists(f"{path}/{name}") for name in _OF_A_RUN)
