"""The supervisor of one run: a light process, detached from the terminal, that starts one child per stage, writes
down what they report, and survives their crashes. It imports no model library and holds no model."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.events import (
    ArtifactWritten,
    Event,
    Failed,
    Noted,
    Progressed,
    RunFinished,
    RunStarted,
    StageStarted,
    Streamed,
    Warned,
    event_from_json,
)
from localdistill.core.stages import STAGES, Leg, is_race, legs
from localdistill.hub.client import SECRETS
from localdistill.hub.names import SCHEME
from localdistill.runs.awake import keep_awake
from localdistill.runs.cleaned_log import CleanedLog
from localdistill.runs.deaths import MOST_DEATHS, ended_for_memory
from localdistill.runs.end_notice import give_notice
from localdistill.runs.power import Power
from localdistill.runs.race_time import FreshSeeds, in_time
from localdistill.safety.children import NOTHING, Process, start_module
from localdistill.workspace.facts_file import fact_line
from localdistill.workspace.run_folder import AFTER_DEATH, EVENTS, EVENTS_FD_VARIABLE, RunFolder

if TYPE_CHECKING:
    from localdistill.recipe import Recipe

STATUS_EVERY_S = 0.1
_LAST_WORDS_S = 1.0
"""As long is read what a stage said before it ended."""
GIVES_WAY = frozenset({"tune", "train"})
"""Stages that can be begun again with less memory."""
MEMORY = -9
"""In place of an exit code: a stage that may be begun again with less memory."""
_LAST_BYTES = 8192
"""Of a log, where somebody looks for last words."""
_WITHOUT_STUDENT = frozenset(stage.name for stage in STAGES if not stage.uses_student)


def secrets_of(recipe: Recipe, stage: str = "", fetches: bool = False) -> set[str]:
    """The environment variables with secrets that the process of `stage` may have: keys of the engines that it asks,
    and what loads its models from the hub. With an empty `stage`, those of all. fetches: whether it brings whatever the
    recipe names of the hub, as the first stage of a run does."""
    from localdistill.recipe.hub_models import hub_data, hub_uses
    from localdistill.workspace.terms import engines_in, who_answers

    mine = [(use, options) for asks, _, use, options in engines_in(recipe) if stage in ("", asks)]
    names = {name for use, options in mine for name in who_answers(use, options).key_names}
    if fetches or not stage:
        return names | set(SECRETS) if hub_uses(recipe) or hub_data(recipe) else names
    models = [str(options) for _, options in mine]
    if recipe.student and stage not in _WITHOUT_STUDENT:
        models.append(recipe.student.model)
    return names | set(SECRETS) if any(SCHEME in model for model in models) else names


def computes_here(recipe: Recipe, stage: str) -> bool:
    """Whether `stage` works on this machine, rather than wait for servers elsewhere or only look through the store."""
    from localdistill.providers import is_loopback
    from localdistill.workspace.terms import engines_in, who_answers

    hosts = [who_answers(use, options).hosts for asks, _, use, options in engines_in(recipe) if asks == stage]
    return stage not in _WITHOUT_STUDENT or any(not of or any(map(is_loopback, of)) for of in hosts)


def _know(names: set[str]) -> None:
    from localdistill.keys.access import know_keys

    know_keys(names)


class Recorder:
    """Writes facts to events.jsonl and the passing state to status.json, at most ten times a second."""

    def __init__(self, run: RunFolder, recipe: str) -> None:
        self.run = run
        self.status: dict[str, Any] = {"state": "running", "recipe": recipe, "pid": os.getpid(), "stage": ""}
        self.seeds = FreshSeeds()
        self._written_at = 0.0
        self._dirty = True
        self._file = open(run.path / EVENTS, "ab", buffering=0)  # noqa: SIM115 - lives as long as the run
        self._end_torn_line()
        with open(run.path / EVENTS, "rb") as handle:
            self._lines = sum(1 for _ in handle)

    def _end_torn_line(self) -> None:
        """A supervisor that was killed may have left half a line; start on a fresh one."""
        path = self.run.path / EVENTS
        if path.stat().st_size:
            with open(path, "rb") as handle:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    self._file.write(b"\n")

    def take(self, event: Event) -> None:
        """Keep one event."""
        if event.is_fact:
            self._lines += 1
            self._file.write(fact_line(event, time.time(), self._lines))
        match event:
            case StageStarted():
                self.status.update(stage=event.stage, label="", arm="", seed=None, contestant="", done=0, total=0,
                                   unit="", counters={}, tables={}, tail="", tail_answer="", tail_of="")
            case Progressed():
                self.status.update(
                    label=event.label,
                    arm=event.arm,
                    seed=event.seed,
                    contestant=event.contestant,
                    done=event.done,
                    total=event.total,
                    unit=event.unit,
                    counters=dict(event.counters),
                    tables=dict(event.tables),
                )
            case Streamed():
                self.status.update(tail=event.text[-2000:], tail_answer=event.answer[-2000:], tail_of=event.who)
            case ArtifactWritten():
                self.seeds.take(event)
            case Failed():
                self.status.update(message=event.text, hint=event.hint, exit_code=event.exit_code)
        self._dirty = True
        self.flush()

    def end(self, event: RunFinished) -> None:
        """Keep the last event, and a last status that says what is to be found of the run later."""
        self.status["state"] = event.state
        self.take(event)
        self._write(has_ended=True)
        self.run.end_size_of_journal()
        self._file.close()

    def wait_for(self, what: str) -> None:
        """Say in the status what the run waits for, and no longer when that is empty."""
        self.status.update(waiting=what, label=f"waits for {what}" if what else "", done=0, total=0, unit="",
                           counters={}, tables={})
        self._dirty = True
        self.flush(force=True)

    def flush(self, force: bool = False) -> None:
        """Write status.json when it is due."""
        now = time.monotonic()
        if self._dirty and (force or now - self._written_at >= STATUS_EVERY_S):
            self._write()

    def _write(self, has_ended: bool = False) -> None:
        with contextlib.suppress(OSError):
            self.run.write_status({**self.status, **self.run.held(has_ended)})
        self._written_at, self._dirty = time.monotonic(), False


class Supervisor:
    """Runs the stages of one run, one child at a time."""

    def __init__(self, run: RunFolder, lock: int | None = None, power: Power | None = None) -> None:
        """lock: the open file of the run's lock, when who started this holds it already."""
        from localdistill.runs.device_turns import DeviceTurns  # who only starts or looks at runs needs none of it

        self.run = run
        self.lock = lock
        self.recipe = run.recipe()
        request = run.request()
        self.stages: list[str] = list(request["stages"])
        self.until: float | None = request.get("until")
        self.power = power or Power("pause" if request.get("on_battery") == "pause" else "go")
        self.turns = DeviceTurns(self.recipe, run.id, str(run.path.parent.parent))
        self.is_queued = bool(request.get("queued"))
        self.notice = str(request.get("notify") or "")
        self.child: Process | None = None
        self.stop_now = False
        self._here: dict[str, bool] = {}

    def main(self) -> int:
        """The exit code of the run."""
        with self.run.hold() if self.lock is None else os.fdopen(self.lock, "ab") as lock:
            lock.write(str(os.getpid()).encode())
            lock.flush()
            signal.signal(signal.SIGTERM, self._stop)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self.run.set_pause(False)
            recorder = Recorder(self.run, self.recipe.name)
            started = time.monotonic()
            recorder.take(RunStarted(self.run.id, self.recipe.name, tuple(self.stages)))
            self._say_what_powers(recorder)
            with self.turns.whole_run(recorder, self.run.cancel_asked) if self.is_queued else nullcontext():
                code = self._work(recorder)
            state = {0: "finished", 130: "cancelled", 3: "partial", 4: "paused"}.get(code, "failed")
            self.run.close_journal()
            recorder.end(RunFinished(state, time.monotonic() - started, code))
        give_notice(self.run, state, self.notice)
        return code

    def _work(self, recorder: Recorder) -> int:
        """All legs, up to the first that does not reach its end; its exit code."""
        for leg in self._legs(recorder):
            if code := self._stage(leg, recorder):
                return code
        return 0

    def _legs(self, recorder: Recorder) -> Iterator[Leg]:
        """Those of the run; of a race that is to end by some time, those that fit."""
        seeds = self.recipe.train.seeds if self.recipe.train else 1
        found = legs(self.stages, seeds)
        if self.until is None or not is_race(self.stages, seeds):
            return found
        return in_time(found, self.until, recorder.take, f"localdistill resume {self.run.id}",
                       recorder.seeds.newest_is)

    def _stop(self, *_: object) -> None:
        """A second request to stop: end the child at once."""
        self.stop_now = True
        self.run.ask_cancel()
        if self.child and self.child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)

    def _stage(self, leg: Leg, recorder: Recorder) -> int:
        """Run one stage, in as many children as it takes: one that stopped for want of mains power goes on when that is
        back, one whose memory ran out begins again with less; its exit code."""
        deaths, stage = 0, leg.stage
        while True:
            self._wait_for_power(stage, recorder)
            with self.turns.stage(stage, recorder, self.run.cancel_asked):
                code = self._try(leg, recorder, deaths)
            if code is None:
                continue  # it stands still for want of mains power
            if code != MEMORY:
                return code
            deaths += 1

    def _try(self, leg: Leg, recorder: Recorder, deaths: int) -> int | None:
        """One child of a stage after so many that died for want of memory: the exit code of the stage, `MEMORY` where
        this one died so too and another may be tried, None where it stopped as mains power is gone."""
        stage = leg.stage
        if self.run.cancel_asked():
            recorder.take(Failed(stage, "cancelled", f"localdistill resume {self.run.id}", 130))
            return 130
        recorder.take(StageStarted(stage))
        recorder.flush(force=True)
        logged = self.run.log.stat().st_size if self.run.log.exists() else 0
        code, told = self._child(stage, recorder, str(leg.seeds), AFTER_DEATH if deaths else "")
        if code and self.stop_now:
            recorder.take(Failed(stage, "stopped at once", f"localdistill resume {self.run.id}", 130))
            return 130
        if code == 130 and not told:
            return None
        if told or not code:
            return code if code >= 0 else 1
        for_memory = ended_for_memory(code, self._log_since(logged))
        if stage not in GIVES_WAY or deaths == MOST_DEATHS or not for_memory:
            return self._died(stage, code, recorder, for_memory)
        recorder.take(Warned(f"the system ended the process of '{stage}', most likely for want of memory: it is "
                             "started again, one rung lower", "end other programs that take memory", stage=stage))
        return MEMORY

    def _child(self, stage: str, recorder: Recorder, *more: str) -> tuple[int, bool]:
        """Run one stage in a child: its exit code, and whether it said why it failed."""
        events, write_fd = os.pipe()
        said, say_fd = os.pipe()
        secrets = secrets_of(self.recipe, stage, fetches=stage == self.stages[0])
        self.child = start_module(
            "localdistill.stages",
            str(self.run.path),
            stage,
            *filter(None, more),
            environment={EVENTS_FD_VARIABLE: str(write_fd), "PYTHONUNBUFFERED": "1"},
            secrets=secrets,
            is_offline=False,
            stdin=NOTHING,
            stdout=say_fd,
            stderr=say_fd,
            pass_fds=(write_fd,),
            start_new_session=True,
        )
        os.close(write_fd)
        os.close(say_fd)
        keep_awake(self.child.pid)
        log = CleanedLog(self.run.log, lambda: _know(secrets))
        told = self._listen(os.fdopen(events, "rb"), os.fdopen(said, "rb"), stage, recorder, log)
        return self.child.wait(), told

    def _died(self, stage: str, code: int, recorder: Recorder, for_memory: bool) -> int:
        """Say that the process of a stage ended without a word."""
        why = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        recorder.take(Failed(stage, f"the process of the stage '{stage}' {why}"
                                    f"{', most likely for want of memory' if for_memory else ''}",
                             f"{'end other programs that take memory; ' if for_memory else ''}see {self.run.log.name} "
                             f"in the run's folder; localdistill resume {self.run.id}", 1))
        return 1

    def _log_since(self, place: int) -> bytes:
        """The end of what went into the log from byte `place` on."""
        with contextlib.suppress(OSError), open(self.run.log, "rb") as log:
            log.seek(max(place, self.run.log.stat().st_size - _LAST_BYTES))
            return log.read()
        return b""

    # ---- power

    def _say_what_powers(self, recorder: Recorder) -> None:
        self.power.must_wait()
        if self.power.is_unknown:
            recorder.take(Warned("the run was told to pause on battery, and this machine does not say what powers it: "
                                 "it goes on"))

    def _look_at_power(self, stage: str, recorder: Recorder) -> None:
        """Ask the child to stop when mains power is gone, and say when the machine slept."""
        if slept_s := self.power.slept_s():
            recorder.take(Noted(f"the machine slept for {slept_s / 60:,.0f} min (or its clock was set); the run goes "
                                "on", stage=stage))
        if self.power.must_wait() and not self.run.pause_asked() and self._computes_here(stage):
            self.run.set_pause(True)
            recorder.take(Warned(f"on battery: '{stage}' stops at its next safe point, and goes on by itself when "
                                 "mains power is back", f"localdistill cancel {self.run.id}, then localdistill resume "
                                 f"{self.run.id} --on-battery go", stage=stage))

    def _computes_here(self, stage: str) -> bool:
        """See `computes_here`; worked out once, as it is asked several times a second."""
        if stage not in self._here:
            self._here[stage] = computes_here(self.recipe, stage)
        return self._here[stage]

    def _wait_for_power(self, stage: str, recorder: Recorder) -> None:
        """Return when `stage` may work, or somebody asked to stop."""
        waits = False
        while self.power.must_wait() and not self.run.cancel_asked() and self._computes_here(stage):
            if not waits:
                waits = True
                recorder.wait_for("mains power")
            time.sleep(STATUS_EVERY_S)
        self.run.set_pause(False)
        self.power.slept_s()  # who waits may sleep
        if waits:
            recorder.wait_for("")
            recorder.take(Noted(f"'{stage}' waited for mains power", stage=stage))

    def _listen(self, events: IO[bytes], said: IO[bytes], stage: str, recorder: Recorder, log: CleanedLog) -> bool:
        """Take the child's events, and what it says besides for the log, until it ends; True when it said why it
        failed. What a process that outlives the child still says is not waited for, and that it
        stops because mains power is gone is no failure."""
        failed, buffer, ends_at = False, b"", math.inf
        pipes = [events, said]
        with events, said:
            while pipes and time.monotonic() < ends_at:
                self._look_at_power(stage, recorder)
                ready, _, _ = select.select(pipes, [], [], STATUS_EVERY_S if events in pipes else 0)
                if not ready and events not in pipes:
                    break
                if not ready:
                    recorder.flush()
                if said in ready:
                    if chunk := os.read(said.fileno(), BORDERS.pipe_bytes):
                        log.take(chunk)
                    else:
                        pipes.remove(said)
                if events in ready:
                    chunk = os.read(events.fileno(), BORDERS.pipe_bytes)
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    failed = any([self._is_failure(line, recorder) for line in lines]) or failed
                    if not chunk:
                        pipes.remove(events)
                        ends_at = time.monotonic() + _LAST_WORDS_S
        log.end()
        return failed

    def _is_failure(self, line: bytes, recorder: Recorder) -> bool:
        """Whether the event in this line, which is recorded, says why a stage failed. That the child stops as it was
        asked to, to go on later, is none and not recorded."""
        event = None
        with contextlib.suppress(ValueError):
            event = event_from_json(json.loads(line))
        if event is None:
            return False
        if isinstance(event, Failed) and event.exit_code == 130 and self.run.pause_asked() \
                and not self.run.cancel_asked():
            return False
        recorder.take(event)
        return isinstance(event, Failed)


def main() -> None:
    """Entry point of the supervisor process: the run's folder, and the number of the open file that is its lock.

    It reads the recipe first, so that whoever starts it hears of a bad one, and then leaves its parent for good.
    """
    lock = int(sys.argv[2]) if len(sys.argv) > 2 else None
    if lock is not None:
        os.set_inheritable(lock, False)  # a child that outlives this process must not keep the run alive
    supervisor = Supervisor(RunFolder(Path(sys.argv[1])), lock)
    if os.fork():
        os._exit(0)
    sys.exit(supervisor.main())
