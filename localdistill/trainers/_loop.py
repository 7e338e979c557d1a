"""The training loop: schedule, optimizer, checkpoints, memory, events. One object per training; it ends with finite
weights or an error. Must not load models or write adapters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, Emit, Measured, Noted, Progressed, Warned
from localdistill.trainers._batches import epoch_batches
from localdistill.trainers._checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from localdistill.trainers._options import LoopOptions
from localdistill.trainers._steps import StepNumbers, Stepper, is_out_of_memory
from localdistill.trainers.base import TrainingJob
from localdistill.trainers.report import TrainingResult

MEASURED_POINTS = 400
"""At most about this many steps report learning rate and speed; the loss is reported at every step."""


class TrainingLoop:
    """State of one training from its first (or resumed) step to its last."""

    def __init__(self, options: LoopOptions, job: TrainingJob, model: Any,
                 trained: Mapping[str, torch.nn.Parameter], stepper: Stepper, fingerprint: str, emit: Emit,
                 cancel: Cancel) -> None:
        self.options, self.job, self.model, self.trained, self.stepper = options, job, model, trained, stepper
        self.fingerprint, self.emit, self.cancel = fingerprint, emit, cancel
        self.device = stepper.device
        self.folder = job.output / "checkpoints"
        self.optimizer = _optimizer(trained, options.weight_decay)
        self.plan: tuple[int, list[list[int]]] = (-1, [])
        self.epoch_steps = [len(self._epoch(epoch)) for epoch in range(math.ceil(options.epochs))]
        self.total = self._count_steps()
        self.step = 0
        self.tokens = self.trained_tokens = 0
        self.loss = math.nan
        self.elapsed_before_s = 0.0
        self.started = self.saved_at = time.monotonic()
        self.recomputes = False

    def run(self) -> TrainingResult:
        """Train to the last step, or to the first number that is not finite (`stopped_early`)."""
        self.model.train()
        if self.options.gradient_checkpointing:
            self._recompute()
        checkpoint = newest_checkpoint(self.folder, self.fingerprint)
        self._probe()
        if checkpoint is not None:
            self._restore(checkpoint)
        self.started = self.saved_at = time.monotonic()
        stopped = ""
        while self.step < self.total and not stopped:
            if self.cancel.is_set():
                self._save()
                self.cancel.check()
            stopped = self._one_step()
            if not stopped and self._save_is_due():
                self._save()
        self.model.eval()
        epochs = self.step / sum(self.epoch_steps) * len(self.epoch_steps)
        return TrainingResult(self.step, epochs, self.trained_tokens, self.loss, self._elapsed_s(),
                              peak_memory_bytes(self.device), stopped)

    def _one_step(self) -> str:
        """Do one step; the reason to stop when a number is not finite, in which case the weights stay as they were."""
        began = time.monotonic()
        rate = self.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        numbers = self._accumulate(self._batch(self.step))
        norm = self._clip()
        if not math.isfinite(numbers.loss) or not math.isfinite(norm):
            what = "loss" if not math.isfinite(numbers.loss) else "gradient"
            return self._stop(f"the {what} was not finite at step {self.step + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += numbers.tokens
        self.trained_tokens += numbers.trained_tokens
        self.loss = numbers.loss
        self._report(numbers, rate, norm, time.monotonic() - began)
        return ""

    def _stop(self, reason: str) -> str:
        self.optimizer.zero_grad(set_to_none=True)
        hint = "lower learning_rate, or set dtype = \"float32\""
        if self.step == 0:
            raise LocalDistillError(f"{self.job.arm}: {reason}", hint)
        self.emit(Warned(f"{self.job.arm}: stopped, {reason}; the weights before it are kept", hint))
        return reason

    def _clip(self) -> float:
        parameters = list(self.trained.values())
        if self.stepper.scale != 1.0:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.stepper.scale)
        return float(torch.nn.utils.clip_grad_norm_(parameters, self.options.max_grad_norm or math.inf))

    def _report(self, numbers: StepNumbers, rate: float, norm: float, elapsed_s: float) -> None:
        speed = numbers.tokens / max(elapsed_s, 1e-9)
        self.emit(Measured("loss", numbers.loss, self.step))
        if self.step % max(1, self.total // MEASURED_POINTS) == 0 or self.step in (1, self.total):
            self.emit(Measured("learning_rate", rate, self.step))
            self.emit(Measured("grad_norm", norm, self.step))
            self.emit(Measured("tokens_per_s", speed, self.step))
        self.emit(Progressed(self.job.arm, self.step, self.total, "steps", {
            "loss": numbers.loss, "learning_rate": rate, "tokens_per_s": speed}))

    def _accumulate(self, batch: Sequence[int]) -> StepNumbers:
        """The gradient of one batch, in smaller micro-batches each time memory runs out."""
        while True:
            # Dropout must be the same after a retry, or the retry would change the result of the step.
            state = torch.get_rng_state()
            try:
                return self.stepper.accumulate(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            torch.set_rng_state(state)
            self._relieve(batch, reason)

    def _relieve(self, batch: Sequence[int], reason: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.stepper.halve(batch):
            self.emit(Warned(f"memory ran out; micro-batches now hold {self.stepper.micro_tokens} tokens, "
                             "each step stays the same"))
        elif not self.recomputes:
            self._recompute()
            self.emit(Warned("memory ran out on a single row; activations are now recomputed"))
        else:
            raise LocalDistillError(f"{self.job.arm}: a single row does not fit into memory ({reason.splitlines()[0]})",
                                    "use a smaller student, quantization = \"nf4\", or shorter rows")

    def _recompute(self) -> None:
        self.recomputes = True
        model = self.model
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def _probe(self) -> None:
        """Run the heaviest micro-batch once, before step 1, and say what it needed; nothing of it remains."""
        state = torch.get_rng_state()
        self._accumulate(self.stepper.heaviest())
        self.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(state)
        self.emit(Measured("probe_peak_bytes", peak_memory_bytes(self.device), self.step))

    def learning_rate(self, step: int) -> float:
        """The step size of 0-based `step`."""
        peak = self.options.learning_rate
        warmup = math.ceil(self.options.warmup_share * self.total)
        if step < warmup:
            return peak * (step + 1) / warmup
        share = (step - warmup) / max(1, self.total - warmup)
        fall = {"cosine": 0.5 * (1 + math.cos(math.pi * share)), "linear": 1 - share, "constant": 1.0}
        return peak * fall[self.options.schedule]

    def _epoch(self, epoch: int) -> list[list[int]]:
        if self.plan[0] != epoch:
            rows = self.stepper.rows
            self.plan = epoch, epoch_batches(self.stepper.lengths, self.options.batch_rows, self.options.batch_tokens,
                                             self.job.seed, epoch, rows.groups, rows.epochs)
        return self.plan[1]

    def _batch(self, step: int) -> list[int]:
        epoch = 0
        while step >= self.epoch_steps[epoch]:
            step -= self.epoch_steps[epoch]
            epoch += 1
        return self._epoch(epoch)[step]

    def _count_steps(self) -> int:
        unseen = len(self.epoch_steps) - self.options.epochs
        total = sum(self.epoch_steps) - math.floor(unseen * self.epoch_steps[-1])
        return max(1, min(total, self.options.max_steps or total))

    def _elapsed_s(self) -> float:
        return self.elapsed_before_s + time.monotonic() - self.started

    def _save_is_due(self) -> bool:
        steps, seconds = self.options.checkpoint_every_steps, self.options.checkpoint_every_s
        if self.step >= self.total:
            return False
        return bool((steps and self.step % steps == 0) or (seconds and time.monotonic() - self.saved_at >= seconds))

    def _save(self) -> None:
        tensors: dict[str, torch.Tensor] = {f"trained.{name}": value for name, value in self.trained.items()}
        for name, value in self.trained.items():
            for key, held in self.optimizer.state.get(value, {}).items():
                tensors[f"{key}.{name}"] = held
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        save_checkpoint(self.folder, self.step, tensors, {
            "fingerprint": self.fingerprint, "tokens": self.tokens, "trained_tokens": self.trained_tokens,
            "loss": self.loss, "elapsed_s": self._elapsed_s(), "micro_tokens": self.stepper.micro_tokens,
        })
        self.saved_at = time.monotonic()
        self.emit(Measured("checkpoint", self.saved_at - self.started, self.step))

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors, state = checkpoint.tensors, checkpoint.state
        for name, value in self.trained.items():
            value.data.copy_(tensors[f"trained.{name}"])
            held = {key: tensors[f"{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}.{name}" in tensors}
            if held:
                self.optimizer.state[value] = {key: tensor.to(self.device) for key, tensor in held.items()}
        torch.set_rng_state(tensors["rng.cpu"].clone())
        if "rng.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"].clone(), self.device)
        self.step, self.loss = checkpoint.step, float(state["loss"])
        self.tokens, self.trained_tokens = int(state["tokens"]), int(state["trained_tokens"])
        self.elapsed_before_s = float(state["elapsed_s"])
        self.stepper.micro_tokens = min(self.stepper.micro_tokens, int(state["micro_tokens"]))
        self.emit(Noted(f"{self.job.arm}: resumed after step {self.step} of {self.total}"))


def _optimizer(trained: Mapping[str, torch.nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    layers = [value for name, value in trained.items() if ".lora_" in name]
    rows = [value for name, value in trained.items() if ".lora_" not in name]
    groups: list[dict[str, Any]] = [{"params": layers, "weight_decay": weight_decay}]
    if rows:
        groups.append({"params": rows, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory used so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
