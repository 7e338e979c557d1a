"""The backend of the training loop in torch, on a CPU or one GPU: a frozen student with low-rank adapters, AdamW, and
what gives way when memory runs out. Must not know a schedule, checkpoints or events beyond what it loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Emit
from localdistill.core.records import Reply, Request
from localdistill.modelfiles.adapter import AdapterFolder, write_adapter
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.modelfiles.loading import device_name, is_out_of_memory, load_causal_model, pick_device
from localdistill.modelfiles.shape import shape_of
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import HeldBase
from localdistill.trainers.torch.attention import use_packed
from localdistill.trainers.torch.blocks import keep_little
from localdistill.trainers.torch.host_head import HostHead
from localdistill.trainers.torch.lora import attach_lora, attach_tags, start_from
from localdistill.trainers.torch.options import TorchOptions
from localdistill.trainers.torch.places import emit_idle_gpu, held_as_it_fits, is_nf4, training_dtype
from localdistill.trainers.torch.rungs import Ladder, rungs_of
from localdistill.trainers.torch.steps import Stepper

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_DOUBLED_AFTER, _LARGEST_SCALE = 2000, 2.0 ** 24
"""After so many steps without an overflow gradients in float16 are scaled by twice as much, up to this."""
_TENSORS, _RUNGS = "tensors.safetensors", "rungs.json"
Came = TypeVar("Came")


class TorchBackend:
    """One training in torch."""

    def __init__(self, options: TorchOptions) -> None:
        self.options = options
        self._scaled_steps = 0

    @property
    def held(self) -> HeldBase:
        """How the base's weights are held."""
        return self._held

    def load(self, job: TrainingJob, rows: Dataset, emit: Emit) -> str:
        """Load the student, put adapters over it, and say so."""
        options = self.options
        if options.threads:
            torch.set_num_threads(options.threads)
        self.folder = ModelFolder.open(job.student)
        self.device = pick_device(options.device)
        if self.device.type == "cpu" and options.device == "auto":
            emit_idle_gpu(emit, look_at_hardware())
        dtype = training_dtype(options.dtype, self.device)
        quantization: Literal["nf4", "none"] = "nf4" if is_nf4(options, self.device.type == "cuda") else "none"
        self._held = HeldBase(quantization, str(dtype).removeprefix("torch."))
        torch.manual_seed(job.seed)
        self.model = load_causal_model(self.folder, dtype, self.device, quantization)
        self._attach(job)
        use_packed(self.model)
        keep_little(self.model, self.folder.kind)
        longest = max(rows.lengths)
        position, plan = held_as_it_fits(options, shape_of(self.folder), longest, look_at_hardware())
        self.stepper = Stepper(self.model, rows, self.device, position.micro_tokens,
                               self.folder.kind.logit_cap(self.folder.config))
        self.optimizer = _optimizer(self.trained, options.weight_decay)
        self.model.train()
        self.ladder = Ladder(rungs_of(self.model, self.device, self.device.type != "cpu", self.folder.tied_embeddings,
                                      self._halve, self._use_host_head))
        self.ladder.take(position.rungs)
        return (f"{sum(p.numel() for p in self.trained.values()):,} trained of {self.folder.parameter_count:,} "
                f"parameters, {self.held.dtype}, {quantization}, {device_name(self.device)}"
                + "".join(f", {way}" for way in plan.gives_way))

    def _attach(self, job: TrainingJob) -> None:
        options = self.options
        start = AdapterFolder.open(job.start_adapter, self.folder) if job.start_adapter else None
        try:
            self.adapters = attach_lora(self.model, options, job.seed, start)
        except ValueError as error:
            raise UsageError(f"targets: {error}", "use all-linear, or names of the student's layers") from error
        self.tags = sorted({*job.tag_token_ids, *(start.token_ids if start else ())})
        self.trained = self.adapters.trained | attach_tags(
            self.model, self.tags, self.folder.tied_embeddings, self.folder.kind.embedding_scale(self.folder.config))
        if start is not None:
            start_from(self.trained, self.tags, start, options.scaling)

    # ---- steps

    def probe(self, work: StepWork) -> None:
        """Compute the heaviest micro-batch and forget it."""
        states = self.stepper.random_state()
        heaviest = self.stepper.portions(work)[0]
        self.accumulate(replace(work, batch=heaviest.rows))
        self.discard()
        self.stepper.set_random_state(states)

    def logprobs(self, batch: Sequence[int]) -> list[Floats]:
        """float32 (n, 1) for each row."""
        self.model.eval()
        try:
            return self._in_memory(lambda: self.stepper.logprobs(batch))
        finally:
            self.model.train()

    def accumulate(self, work: StepWork) -> StepNumbers:
        """Add the gradient of the batch's mean loss. Where it overflows in float16 the batch is computed again with
        half the scale (Micikevicius et al., arXiv 1710.03740, section 3.2, skip such a step)."""
        half = self.model.dtype == torch.float16
        gathered = {value: value.grad.clone() for value in self.trained.values() if half and value.grad is not None}
        states, told = self.stepper.random_state(), dict(work.objective.state())
        while True:
            numbers = self._in_memory(lambda: self.stepper.accumulate(work))
            if not half or self.stepper.scale == 1.0 or not math.isfinite(numbers.loss) or self._is_finite():
                return numbers
            self.discard()
            for value, gradient in gathered.items():
                value.grad = gradient.div_(2).clone()
            self.stepper.scale /= 2
            self._scaled_steps = 0
            self.stepper.set_random_state(states)
            work.objective.restore(told)

    def _is_finite(self) -> bool:
        """Whether the gradient that was gathered is."""
        found = [value.grad.isfinite().all() for value in self.trained.values() if value.grad is not None]
        return not found or bool(torch.stack(found).all())

    def _in_memory(self, compute: Callable[[], Came]) -> Came:
        """What `compute` comes to; MemoryError when it does not fit, with the random numbers as they were before."""
        states = self.stepper.random_state()
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Raised out here, where nothing holds the frames of the failed computation and their tensors any more.
        self.stepper.set_random_state(states)
        raise MemoryError(reason)

    def apply(self, rate: float, max_norm: float) -> float:
        """One step of AdamW."""
        parameters = list(self.trained.values())
        if self.stepper.scale != 1.0:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.stepper.scale)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_norm or math.inf))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self._scaled_steps += 1
            if self.model.dtype == torch.float16 and self._scaled_steps % _DOUBLED_AFTER == 0:
                self.stepper.scale = min(2 * self.stepper.scale, _LARGEST_SCALE)
        self.discard()
        return norm

    def discard(self) -> None:
        """Forget the gradient."""
        self.optimizer.zero_grad(set_to_none=True)

    # ---- memory

    def relieve(self) -> str:
        """By the next rung of the ladder."""
        done = self.ladder.down()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
        return done

    def _halve(self) -> str:
        halved = self.stepper.halve()
        return f"micro-batches now hold {self.stepper.micro_tokens} tokens, each step stays the same" if halved else ""

    def _use_host_head(self) -> None:
        self.stepper.head = HostHead(self.model.lm_head, self.device, self.folder.kind.logit_cap(self.folder.config))

    def peak_bytes(self) -> int:
        """The most memory used so far: of the GPU, or of this process."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    # ---- files

    def save(self, folder: Path) -> None:
        """Trained weights, the optimizer's moments, random numbers, and the rungs that gave way."""
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {f"trained.{name}": value for name, value in self.trained.items()}
        for name, value in self.trained.items():
            for key, held in self.optimizer.state.get(value, {}).items():
                tensors[f"{key}.{name}"] = held
        tensors |= {f"rng.{number}": state for number, state in enumerate(self.stepper.random_state())}
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
        rungs = {"micro_tokens": self.stepper.micro_tokens, "taken": self.ladder.taken,
                 "scale": self.stepper.scale, "scaled_steps": self._scaled_steps}
        (folder / _RUNGS).write_text(json.dumps(rungs))

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        from safetensors.torch import load_file

        tensors = load_file(folder / _TENSORS)
        for name, value in self.trained.items():
            value.data.copy_(tensors[f"trained.{name}"])
            held = {key: tensors[f"{key}.{name}"].clone() for key in _MOMENTS if f"{key}.{name}" in tensors}
            if held:
                self.optimizer.state[value] = {key: tensor.to(self.device) for key, tensor in held.items()}
        self.stepper.set_random_state([tensors[f"rng.{number}"].clone() for number in range(2)
                                       if f"rng.{number}" in tensors])
        rungs = json.loads((folder / _RUNGS).read_text())
        self.stepper.micro_tokens = min(self.stepper.micro_tokens, int(rungs["micro_tokens"]))
        self.stepper.scale, self._scaled_steps = float(rungs["scale"]), int(rungs["scaled_steps"])
        self.ladder.take(rungs["taken"])

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        """What the student answers as it is now."""
        from localdistill.trainers.torch.generating import answers

        states = self.stepper.random_state()
        self.model.eval()
        try:
            yield from answers(self.model, self.folder, requests, cancel)
        finally:
            self.model.train()
            self.stepper.set_random_state(states)

    def write(self, folder: Path) -> None:
        """An adapter in PEFT's layout."""
        tensors, rank, kind = self.adapters.update()
        tags = {name: value.detach() for name, value in self.trained.items() if name not in tensors}
        targets = sorted({name.split(".")[-3] for name in tensors if name.endswith(".lora_A.weight")})
        write_adapter(folder, tensors | tags, rank=rank, alpha=self.options.alpha * rank / self.options.rank,
                      dropout=self.options.dropout, targets=targets, tags=self.tags, tied=self.folder.tied_embeddings,
                      kind=kind)


def _optimizer(trained: Mapping[str, torch.nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    layers = [value for name, value in trained.items() if ".lora_" in name]
    rows = [value for name, value in trained.items() if ".lora_" not in name]
    groups: list[dict[str, Any]] = [{"params": layers, "weight_decay": weight_decay}]
    if rows:
        groups.append({"params": rows, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=0.0, fused=True)
