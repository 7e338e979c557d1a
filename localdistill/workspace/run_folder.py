"""The folder of one run and the files in it. Everybody who starts, watches or ends a run goes through this file;
nothing here starts a process.

    recipe.toml      as given                     events.jsonl   facts, appended
    resolved.json    the checked recipe           status.json    where it is now, replaced
    request.json     stages asked for, base path  log.txt        everything else that processes say
    stages/          what each stage left         lock           held with flock while the run lives
    replies.jsonl    the journal (.zst: closed)   cancel         exists once somebody asked to stop
    calls.jsonl      what calls cost (and .size)  quarantine.jsonl  bodies that could not be read
    logprobs/        log-probabilities, when asked for
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from localdistill.core.errors import UsageError, nearest
from localdistill.core.events import Event, Measured, event_from_json
from localdistill.safety.closing import close_lines
from localdistill.safety.files import atomic_write_bytes, atomic_write_text
from localdistill.safety.frames import Reading
from localdistill.safety.journal import read_lines

if TYPE_CHECKING:
    from localdistill.recipe import Recipe

_COST = re.compile(rb'(?<!\\)"cost_usd":(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
"""The cost in a journal's line; inside a text every quote has a backslash in front."""
RUN_JOURNAL = "replies.jsonl"
EVENTS_FD_VARIABLE = "LOCALDISTILL_EVENTS_FD"
"""Environment variable that tells a stage's process where its events go."""
START_TIMEOUT_S = 30.0
"""Within this time after its folder was made, a run has a process."""
_TRIES, _MOMENT_S = 5, 0.01


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


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

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
        (path / "stages").mkdir()
        atomic_write_text(path / "recipe.toml", text)
        atomic_write_text(path / "request.json", json.dumps(dict(request)))
        atomic_write_text(path / "resolved.json", dump_recipe(recipe))
        return cls(path)

    @classmethod
    def open(cls, runs: Path, run_id: str) -> RunFolder:
        """The run called `run_id`; `last` is the newest."""
        known = {folder.id: folder for folder in list_runs(runs)}
        if run_id == "last" and known:
            return max(known.values(), key=lambda folder: folder.started_at())
        if run_id not in known:
            raise UsageError(
                f"there is no run '{run_id}' here{nearest(run_id, known)}",
                "`localdistill runs` lists them; --workspace picks another folder",
            )
        return known[run_id]

    def recipe(self) -> Recipe:
        """The checked recipe; UsageError when its file is gone or damaged."""
        from localdistill.recipe import read_resolved  # to list runs needs none of what reading a recipe needs

        try:
            return read_resolved((self.path / "resolved.json").read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"the recipe of run {self.id} cannot be read: {str(error).splitlines()[0]}",
                             "start the recipe again: what is stored is not asked again") from None

    def request(self) -> dict[str, Any]:
        """What was asked for: `stages`, and `base`, the folder that relative paths start from."""
        data: dict[str, Any] = json.loads((self.path / "request.json").read_text())
        return data

    def started_at(self) -> float:
        """When the folder was made, seconds since the epoch."""
        try:
            return (self.path / "request.json").stat().st_mtime
        except OSError:
            return 0.0

    def is_alive(self) -> bool:
        """True while a supervisor holds the lock."""
        try:
            with open(self.path / "lock", "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def hold(self) -> IO[bytes]:
        """Take the lock for as long as the returned file is open; UsageError when another supervisor has it."""
        handle = open(self.path / "lock", "ab")  # noqa: SIM115 - it stays open as long as the run lives
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                time.sleep(_MOMENT_S)  # somebody may only be looking whether the run lives
        handle.close()
        raise UsageError(f"run {self.id} is already running", f"localdistill attach {self.id}")

    def status(self) -> RunStatus:
        """Where the run is. A damaged or missing status file is no error: the run starts, was interrupted, or nobody
        ever started it."""
        alive = self.is_alive()
        try:
            data = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError, RecursionError):
            data = {}
        data = data if isinstance(data, dict) else {}
        state = str(data.get("state", "starting"))
        if not alive and state in ("running", "starting"):
            had_process = data or any((self.path / name).exists() for name in ("lock", "events.jsonl"))
            state = "interrupted" if had_process else self._without_a_process()
        return RunStatus(
            self.id,
            str(data.get("recipe", self.id.rsplit("-", 1)[0])),
            state,
            str(data.get("stage", "")),
            alive,
            self.started_at(),
            _number(data.get("updated_at")) or self.started_at(),
            data,
        )

    def _without_a_process(self) -> str:
        """The state of a folder that no process has taken: it was just made, or who made it died then."""
        return "starting" if time.time() - self.started_at() < START_TIMEOUT_S else "not started"

    def write_status(self, data: Mapping[str, Any]) -> None:
        """Replace status.json (not synced: it is only a view)."""
        partial = self.path / "status.json.partial"
        partial.write_text(json.dumps({**data, "updated_at": time.time()}))
        os.replace(partial, self.path / "status.json")

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Facts from byte `offset` on, each with the offset behind it; damaged lines are passed over."""
        try:
            with open(self.path / "events.jsonl", "rb") as handle:
                handle.seek(offset)
                for line in handle:
                    if not line.endswith(b"\n"):
                        return
                    offset += len(line)
                    event = _event_of(line)
                    if event:
                        yield event, offset
        except FileNotFoundError:
            return

    def damaged_lines(self) -> int:
        """How many whole lines of events.jsonl hold no JSON: the disk or somebody's editor damaged them."""
        try:
            with open(self.path / "events.jsonl", "rb") as handle:
                return sum(not _is_json(line) for line in handle if line.endswith(b"\n") and line.strip())
        except OSError:
            return 0

    def output(self, stage: str) -> bytes:
        """The file that `stage` left for later stages, which `stages.outputs` reads; UsageError when it has not run."""
        try:
            return (self.path / "stages" / f"{stage}.json").read_bytes()
        except FileNotFoundError:
            raise UsageError(
                f"run {self.id} has no result of the stage '{stage}'", f"localdistill resume {self.id}"
            ) from None

    def write_output(self, stage: str, data: bytes) -> None:
        """Keep the file that `stage` leaves for later stages."""
        atomic_write_bytes(self.path / "stages" / f"{stage}.json", data)

    def write_ids(self, name: str, ids: Sequence[str]) -> None:
        """Keep a list of ids, one a line."""
        atomic_write_text(self.path / "stages" / f"{name}.ids", "".join(f"{i}\n" for i in ids))

    def ids(self, name: str) -> list[str]:
        """The list of ids kept under `name`."""
        path = self.path / "stages" / f"{name}.ids"
        return path.read_text().split() if path.exists() else []

    def has_ids(self, name: str) -> bool:
        """True when a list of ids is kept under `name`, be it an empty one."""
        return (self.path / "stages" / f"{name}.ids").exists()

    @property
    def journal(self) -> Path:
        """The journal of acknowledged replies."""
        return self.path / RUN_JOURNAL

    def close_journal(self) -> None:
        """Compress the journal; its lock is held by the caller. What cannot be written stays as it is."""
        with contextlib.suppress(OSError):
            close_lines(self.journal)

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
        except (OSError, ValueError, AttributeError):
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
        return self.path / "quarantine.jsonl"

    def amend_request(self, **changes: Any) -> None:
        """Change what was asked for, before a resume."""
        atomic_write_text(self.path / "request.json", json.dumps({**self.request(), **changes}))

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


def _event_of(line: bytes) -> Event | None:
    """The fact in one line; None when there is none that can be read."""
    try:
        return event_from_json(json.loads(line))
    except (ValueError, AttributeError, RecursionError):
        return None


def _number(value: object) -> float:
    """`value` as a number that one can reckon with; 0 for what is none."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) else 0.0


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def list_runs(runs: Path) -> list[RunFolder]:
    """All runs of a workspace, oldest first."""
    if not runs.is_dir():
        return []
    found = [RunFolder(path) for path in runs.iterdir() if (path / "request.json").is_file()]
    return sorted(found, key=lambda folder: folder.started_at())
