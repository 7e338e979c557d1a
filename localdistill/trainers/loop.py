"""The training loop: order, schedule, checkpoints, watchdogs, memory, development items and events, over a backend that
computes. One object per training; it ends with finite weights or an error. Must not know a library."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError, LocalDistillError
from localdistill.core.events import Cancel, Counted, Emit, Measured, Noted, Progressed, Warned
from localdistill.core.records import content_id
from localdistill.modelfiles.folder import ModelFolder
from localdistill.safety.files import atomic_write_bytes
from localdistill.trainers._checkpoints import Checkpoint, find_checkpoint, save_checkpoint
from localdistill.trainers._columns import StoredColumn, load_column
from localdistill.trainers._deaths import lower_after_deaths, needs_less
from localdistill.trainers._development import DevDecisions
from localdistill.trainers._options import LoopOptions
from localdistill.trainers._rows import Dataset, check_rows, read_rows
from localdistill.trainers._schedule import Schedule
from localdistill.trainers._token_accuracy import TokenAccuracy
from localdistill.trainers._watchdog import LossWatchdog
from localdistill.trainers.backend import Backend, StepNumbers, StepWork
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import REPORT_FILE, TrainingReport, TrainingResult

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

VERSION = 3
"""Of what a checkpoint holds and of how steps come out; checkpoints of another one are not resumed."""
MEASURED_POINTS = 400
"""At most about this many steps report learning rate and speed; the loss is reported at every step."""
_NOT_TOLD = {"checkpoint_every_s", "checkpoint_every_steps", "threads"}
"""Options that do not change what a training comes to."""
START = "start"
"""Folder beside the checkpoints: the state before step 1."""
_LOWER = 'lower learning_rate, or set dtype = "float32"'
Given = TypeVar("Given")
Came = TypeVar("Came")


def run_training(trainer: str, options: LoopOptions, job: TrainingJob, backend: Backend, emit: Emit,
                 cancel: Cancel) -> TrainingResult:
    """Fill `job.output` with `adapter/` and `training.json`, resuming from a checkpoint of the same training.

    Raises InputError for rows that must not be trained on, Cancelled after writing a checkpoint.
    """
    if job.epochs is not None:
        options = options.model_copy(update={"epochs": job.epochs})
    folder, rows = ModelFolder.open(job.student), read_rows(job.rows)
    check_rows(rows, folder.vocab_size, job.stop_token_id, folder.context_length, job.objective)
    if any(not 0 <= tag < folder.vocab_size for tag in job.tag_token_ids):
        raise InputError(f"a tag token of {sorted(job.tag_token_ids)} is outside the student's vocabulary")
    emit(Counted("dataset", {"rows": len(rows), "tokens": rows.starts[-1],
                             "trained_tokens": int((rows.weights > 0).sum()), "longest_row": max(rows.lengths)}))
    with lower_after_deaths(job.output, job.died_for_memory) as running:
        emit(Noted(backend.load(job, rows, emit)))
        running.loaded()
        fingerprint = _fingerprint(trainer, options, job, folder, rows)
        loop = TrainingLoop(options, job, backend, rows, fingerprint, emit, cancel)
        loop.give_way(running.rungs)
        result = loop.run()
    backend.write(job.output / "adapter")
    report = TrainingReport(trainer, job.arm, job.seed, folder.digest(), job.objective.name, options.model_dump(),
                            result, backend.held)
    atomic_write_bytes(job.output / REPORT_FILE, report.to_bytes())
    shutil.rmtree(job.output / "checkpoints", ignore_errors=True)
    return result


def _fingerprint(trainer: str, options: LoopOptions, job: TrainingJob, folder: ModelFolder, rows: Dataset) -> str:
    """Identity of this training: a checkpoint of any other one must not be resumed."""
    start = ""
    if job.start_adapter is not None:
        from localdistill.modelfiles.adapter import AdapterFolder

        start = AdapterFolder.open(job.start_adapter, folder).digest()
    objective = job.objective
    return content_id("training", VERSION, trainer, options.model_dump(exclude=_NOT_TOLD), objective.name,
                      objective.version, objective.options.model_dump(), job.seed, folder.digest(), rows.identity(),
                      sorted(job.tag_token_ids), start, *([job.dev_items.rule()] if job.dev_items else []),
                      *([job.rates] if job.rates else []))


class TrainingLoop:
    """State of one training from its first (or resumed) step to its last."""

    def __init__(self, options: LoopOptions, job: TrainingJob, backend: Backend, rows: Dataset, fingerprint: str,
                 emit: Emit, cancel: Cancel) -> None:
        self.options, self.job, self.backend, self.rows = options, job, backend, rows
        self.fingerprint, self.emit, self.cancel = fingerprint, emit, cancel
        self.folder = job.output / "checkpoints"
        self.dev = (DevDecisions(job.dev_items, self.folder / "best", fingerprint, job.arm) if job.dev_items
                    else None)
        self.watchdog, self.accuracy = LossWatchdog(), TokenAccuracy()
        self.schedule = Schedule(options, rows, job.seed, job.rates)
        self.stored: dict[str, StoredColumn] = {}
        self.step = 0
        self.trained_tokens = 0
        self.loss = math.nan
        self.elapsed_before_s = 0.0
        self.started = self.saved_at = time.monotonic()

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.schedule.steps

    def run(self) -> TrainingResult:
        """Train to the last step, or to where it goes astray for the second time (`stopped_early`)."""
        checkpoint = self._newest_checkpoint()
        self.stored = {name: self._column(name) for name in self.job.objective.stored}
        self._probe()
        if checkpoint is not None:
            self._resume(checkpoint)
        elif self.total > 1:
            self._save(self.folder / START)
        self.started = self.saved_at = time.monotonic()
        stopped = ""
        while True:
            if self.cancel.is_set():
                self._save()
                self.cancel.check()
            if self._measures_dev_items():
                continue
            if stopped or self.step >= self.total or (self.dev and self.dev.is_over):
                break
            if wrong := self._one_step():
                stopped = self._go_back(wrong) if self.job.goes_back else wrong
            elif self._save_is_due():
                self._save()
        return self._result(stopped)

    def _result(self, stopped: str) -> TrainingResult:
        """Of the weights that come out: the last ones, or those that development items chose."""
        last = self.step
        if self.dev and (chosen := self.dev.choose(last, self.backend, self.emit)):
            self.step, self.loss = int(chosen["step"]), float(chosen["loss"])
            self.trained_tokens = int(chosen["trained_tokens"])
        dev = self.dev.outcome(last, self.step) if self.dev else None
        result = TrainingResult(self.step, self.schedule.epochs(self.step), self.trained_tokens, self.loss,
                                self._elapsed_s(), self.backend.peak_bytes(), stopped, dev, self.watchdog.recovery,
                                self.accuracy.by_epoch())
        for told in filter(None, (result.came_out, result.learned)):
            self.emit(Noted(f"{self.job.arm}: {told}"))
        return result

    def _one_step(self) -> str:
        """Do one step; what is wrong where the training has gone astray, in which case the weights stay as they
        were."""
        began = time.monotonic()
        rate = self.schedule.learning_rate(self.step) * self.watchdog.rate_factor
        numbers = self._in_memory(self.backend.accumulate, self._work(self.schedule.batch(self.step)))
        if wrong := self.watchdog.what_is_wrong(numbers.loss, self.step + 1):
            return wrong
        norm = self.backend.apply(rate, self.options.max_grad_norm)
        if not math.isfinite(norm):
            return f"the gradient was not finite at step {self.step + 1}"
        self.accuracy.take(self.schedule.epoch(self.step), numbers.ranked_first, numbers.to_learn)
        self.step += 1
        self.trained_tokens += numbers.trained_tokens
        self.loss = numbers.loss
        self._report(numbers, rate, norm, time.monotonic() - began)
        return ""

    def _work(self, batch: Sequence[int]) -> StepWork:
        return StepWork(self.rows, batch, self.job.objective, self.stored, self.step / self.total)

    # ---- going astray

    def _go_back(self, wrong: str) -> str:
        """Take up the last good state with a lower rate, once; else end with the last good weights. Why it stops, empty
        where it goes on."""
        self.backend.discard()
        good, at = self._last_good(), self.step + 1
        if self.watchdog.recovery is None and good is not None:
            self._restore(good)
            self.watchdog.went_back(wrong, at, good.step)
            assert self.watchdog.recovery is not None
            self.emit(Warned(f"{self.job.arm}: {self.watchdog.recovery.told()}", _LOWER))
            return ""
        if not self.watchdog.is_calm and good is not None:
            recovery = self.watchdog.recovery
            self._restore(good)
            self.watchdog.recovery = recovery
        if self.step == 0:
            raise LocalDistillError(f"{self.job.arm}: {wrong}, and nothing was learned before that", _LOWER)
        self.emit(Warned(f"{self.job.arm}: stopped, {wrong}; the weights of step {self.step} are kept", _LOWER))
        return wrong

    def _last_good(self) -> Checkpoint | None:
        """The newest state of which a loss was seen that was as usual, and that is older than what went wrong."""
        if not self.step:
            return None
        found = find_checkpoint(self.folder, self.fingerprint, up_to=min(self.watchdog.good_step, self.step - 1))
        return found.newest or find_checkpoint(self.folder / START, self.fingerprint).newest

    def _report(self, numbers: StepNumbers, rate: float, norm: float, elapsed_s: float) -> None:
        speed = numbers.tokens / max(elapsed_s, 1e-9)
        metrics = {name: total / count for name, (total, count) in numbers.metrics.items() if count}
        if numbers.to_learn:
            metrics["token_accuracy"] = numbers.ranked_first / numbers.to_learn
        self.emit(Measured("loss", numbers.loss, self.step))
        if self.step % max(1, self.total // MEASURED_POINTS) == 0 or self.step in (1, self.total):
            measured = {"learning_rate": rate, "grad_norm": norm, "tokens_per_s": speed, **metrics}
            for name, value in measured.items():
                self.emit(Measured(name, value, self.step))
        if warning := self.job.objective.watch(metrics):
            self.emit(Warned(f"{self.job.arm}: {warning}"))
        self.emit(Progressed(self.job.arm, self.step, self.total, "steps", {
            "loss": numbers.loss, "learning_rate": rate, "tokens_per_s": speed}))

    # ---- memory

    def _in_memory(self, work: Callable[[Given], Came], given: Given) -> Came:
        """What `work` makes of what it is given, tried again each time memory runs out and something gives way."""
        before = dict(self.job.objective.state())
        while True:
            try:
                return work(given)
            except MemoryError as error:
                reason = str(error).splitlines()[0] if str(error) else "out of memory"
            self.job.objective.restore(before)
            self._relieve(reason)

    def _relieve(self, reason: str) -> None:
        self.backend.discard()
        if not (done := self.backend.relieve()):
            raise LocalDistillError(f"{self.job.arm}: a single row does not fit into memory ({reason})",
                                    needs_less(self.backend.held.quantization))
        self.emit(Warned(f"memory ran out; {done}"))

    def give_way(self, rungs: int) -> None:
        """Begin so many rungs lower than the options say, as trainings before this one died."""
        for number in range(rungs):
            if not (done := self.backend.relieve()):
                raise LocalDistillError(f"{self.job.arm}: a single row does not fit into memory: the training was "
                                        f"ended by the system {rungs} times",
                                        needs_less(self.backend.held.quantization))
            self.emit(Warned(f"{self.job.arm}: a training before this one was ended by the system, most likely for "
                             f"want of memory; {done}" if not number else done))

    def _probe(self) -> None:
        """Run the heaviest micro-batch once, before step 1, and say what it needed; nothing of it remains."""
        before = dict(self.job.objective.state())
        self._in_memory(self.backend.probe, self._work(range(len(self.rows))))
        self.job.objective.restore(before)
        self.emit(Measured("probe_peak_bytes", self.backend.peak_bytes(), self.step))

    # ---- columns of log-probabilities

    def _column(self, name: str) -> StoredColumn:
        """A column that the objective needs: of the dataset; or read where this training made it, else made now, before
        step 1, from the weights that the first step will change."""
        if name in self.rows.columns:
            return StoredColumn([self.rows.column(name, row) for row in range(len(self.rows))])
        if name != "reference":
            what = f"the objective {self.job.objective.name} needs a column '{name}', which the dataset lacks"
            raise InputError(what, "train with another objective")
        if (kept := load_column(self.folder, name, self.fingerprint, self.rows)) is not None:
            return kept
        values: dict[int, Floats] = {}
        order = sorted(range(len(self.rows)), key=lambda row: -self.rows.length(row))
        for start in range(0, len(order), BORDERS.reference_rows):
            self.cancel.check()
            portion = order[start:start + BORDERS.reference_rows]
            values |= zip(portion, self._in_memory(self.backend.logprobs, portion), strict=True)
            self.emit(Progressed(f"{self.job.arm}: {name}", start + len(portion), len(order), "rows"))
        column = StoredColumn([values[row] for row in range(len(self.rows))])
        column.save(self.folder, name, self.fingerprint)
        return column

    # ---- development items

    def _measures_dev_items(self) -> bool:
        """Measure this step where that is due and was not done; False where there was nothing to do. Weights that may
        come out are remembered by a checkpoint that knows of them."""
        if self.dev is None or not self.dev.is_due(self.step, self.total):
            return False
        totals = {"loss": self.loss, "trained_tokens": self.trained_tokens}
        if self.dev.measure(self.step, totals, self.backend, self.emit, self.cancel):
            self._save()
        return True

    # ---- checkpoints

    def _elapsed_s(self) -> float:
        return self.elapsed_before_s + time.monotonic() - self.started

    def _save_is_due(self) -> bool:
        steps, seconds = self.options.checkpoint_every_steps, self.options.checkpoint_every_s
        if self.step >= self.total or not self.watchdog.is_calm:
            return False
        return bool((steps and self.step % steps == 0) or (seconds and time.monotonic() - self.saved_at >= seconds))

    def _save(self, folder: Path | None = None) -> None:
        save_checkpoint(folder or self.folder, self.step, {
            "fingerprint": self.fingerprint, "trained_tokens": self.trained_tokens,
            "loss": self.loss, "elapsed_s": self._elapsed_s(), "objective": dict(self.job.objective.state()),
            "watchdog": self.watchdog.state(), "token_accuracy": self.accuracy.state(),
            **({"dev": self.dev.state()} if self.dev else {}),
        }, self.backend.save)
        self.saved_at = time.monotonic()
        self.emit(Measured("checkpoint", self.saved_at - self.started, self.step))

    def _newest_checkpoint(self) -> Checkpoint | None:
        found = find_checkpoint(self.folder, self.fingerprint)
        if found.newest is None and found.of_others:
            self.emit(Warned(f"{self.job.arm}: begins anew: {found.of_others} checkpoints of it were made by another "
                             "version of localdistill or with other rows, and cannot be continued"))
        if self.dev and found.newest and not self.dev.is_whole(found.newest.state["dev"]):
            self.emit(Warned(f"{self.job.arm}: begins anew: the weights with its best development score are gone"))
            return None
        return found.newest

    def _resume(self, checkpoint: Checkpoint) -> None:
        self._restore(checkpoint)
        self.elapsed_before_s = float(checkpoint.state["elapsed_s"])
        self.emit(Noted(f"{self.job.arm}: resumed after step {self.step} of {self.total}"))

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Weights and all that is remembered of the training, but the time."""
        state = checkpoint.state
        self.backend.restore(checkpoint.folder)
        self.job.objective.restore(dict(state["objective"]))
        self.step, self.loss = checkpoint.step, float(state["loss"])
        self.trained_tokens = int(state["trained_tokens"])
        self.watchdog.restore(state["watchdog"])
        self.accuracy.restore(state["token_accuracy"])
        if self.dev:
            self.dev.restore(state["dev"])
