"""The backend of the training loop in MLX: a frozen student, quantized where asked, with low-rank adapters, AdamW, and
what gives way when memory runs out. Must not know a schedule, checkpoints or events beyond what it loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import numpy as np

from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Emit, Warned
from localdistill.core.records import Reply, Request
from localdistill.modelfiles.adapter import AdapterFolder, write_adapter
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_checking import require_same_logits
from localdistill.modelfiles.mlx_held import load_held
from localdistill.modelfiles.mlx_layout import MlxLayout, TagRows
from localdistill.modelfiles.mlx_models import held_as, import_model_module, load_mlx_model, mlx_dtype
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.mlx.lora import attach_lora, attach_tags, start_from
from localdistill.trainers.mlx.optimizer import MlxAdamW
from localdistill.trainers.mlx.options import MlxOptions
from localdistill.trainers.mlx.places import MICRO_TOKENS, peak_bytes, use_memory
from localdistill.trainers.mlx.steps import MlxStepper, clipped
from localdistill.trainers.report import HeldBase

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

_TENSORS, _STATE = "tensors.safetensors", "state.json"
Came = TypeVar("Came")


class MlxBackend:
    """One training in MLX."""

    def __init__(self, options: MlxOptions) -> None:
        self.options = options

    @property
    def held(self) -> HeldBase:
        """How the base's weights are held."""
        return self._held

    def load(self, job: TrainingJob, rows: Dataset, emit: Emit) -> str:
        """Load the student, put adapters over it, and say so."""
        options = self.options
        self._emit = emit
        self.folder = ModelFolder.open(job.student)
        use_memory(options.memory_share)
        dtype = mlx_dtype(options.dtype)
        kind = held_as(self.folder, options.quantization)
        self._held = HeldBase(kind or "none", dtype)
        require_same_logits(self.folder)
        held = job.held if kind else None
        model = (load_mlx_model(self.folder, dtype, options.quantization) if held is None
                 else load_held(self.folder, options.quantization, dtype, held))
        self._attach(model, job)
        known = self.folder.kind.mlx
        module = import_model_module(known.attention or known.module)
        self.stepper = MlxStepper(self.adapted, module, rows, options.micro_tokens or MICRO_TOKENS, self.folder)
        self.optimizer = MlxAdamW(options.weight_decay)
        model.train()
        trained = sum(value.size for value in self.adapted.parameters().values())
        return (f"{trained:,} trained of {self.folder.parameter_count:,} parameters, {dtype}, {kind or 'none'}, "
                f"MLX on {'the Apple GPU' if mx.default_device() == mx.gpu else 'the CPU'}")

    def _attach(self, model: Any, job: TrainingJob) -> None:
        options = self.options
        start = AdapterFolder.open(job.start_adapter, self.folder) if job.start_adapter else None
        try:
            self.adapted = attach_lora(model, options.targets, options.rank, options.scaling,
                                       options.dropout, job.seed)
        except ValueError as error:
            raise UsageError(f"targets: {error}", "use all-linear, or names of the student's layers") from error
        tags = sorted({*job.tag_token_ids, *(start.token_ids if start else ())})
        attach_tags(self.adapted, tags, self.folder.tied_embeddings)
        if start is not None:
            start_from(self.adapted, start, options.scaling)
        mx.eval(list(self.adapted.parameters().values()))

    # ---- steps

    def probe(self, work: StepWork) -> None:
        """Compute the heaviest micro-batch and forget it."""
        state = self.stepper.random_state()
        heaviest = self.stepper.portions(work)[0]
        self.accumulate(replace(work, batch=heaviest.rows))
        self.discard()
        self.stepper.set_random_state(state)

    def logprobs(self, batch: Sequence[int]) -> list[Floats]:
        """float32 (n, 1) for each row."""
        self.adapted.model.eval()
        state = self.stepper.random_state()
        try:
            return self._in_memory(lambda: self.stepper.logprobs(batch))
        finally:
            self.stepper.set_random_state(state)
            self.adapted.model.train()

    def accumulate(self, work: StepWork) -> StepNumbers:
        """Add the gradient of the batch's mean loss."""
        return self._in_memory(lambda: self.stepper.accumulate(work))

    def _in_memory(self, compute: Callable[[], Came]) -> Came:
        """What `compute` comes to; MemoryError when it does not fit, with the dropout as it was before."""
        state = self.stepper.random_state()
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Raised out here, where nothing holds the frames of the failed computation and their arrays any more.
        self.stepper.set_random_state(state)
        raise MemoryError(reason)

    def apply(self, rate: float, max_norm: float) -> float:
        """One step of AdamW."""
        gradients, norm = clipped(self.stepper.gradients, max_norm)
        if math.isfinite(norm):
            self.adapted.update(self.optimizer.step(self.adapted.parameters(), gradients, rate))
        self.discard()
        return norm

    def discard(self) -> None:
        """Forget the gradient."""
        self.stepper.gradients.clear()

    # ---- memory

    def relieve(self) -> str:
        """Smaller micro-batches; activations are always recomputed here."""
        mx.clear_cache()
        if self.stepper.halve():
            return f"micro-batches now hold {self.stepper.micro_tokens} tokens, each step stays the same"
        return ""

    def peak_bytes(self) -> int:
        """The most memory used so far."""
        return peak_bytes()

    # ---- files

    def save(self, folder: Path) -> None:
        """Trained weights, the optimizer's moments, where dropout is, and the size of micro-batches."""
        tensors = {f"trained.{name}": value for name, value in self.adapted.parameters().items()}
        mx.save_safetensors(str(folder / _TENSORS), tensors | self.optimizer.tensors())
        state = {"draws": self.stepper.random_state(), "steps": self.optimizer.steps,
                 "micro_tokens": self.stepper.micro_tokens}
        (folder / _STATE).write_text(json.dumps(state))

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        tensors = mx.load(str(folder / _TENSORS))
        assert isinstance(tensors, dict)
        self.adapted.update({name: tensors[f"trained.{name}"] for name in self.adapted.parameters()})
        state = json.loads((folder / _STATE).read_text())
        self.optimizer.restore(tensors, int(state["steps"]))
        self.stepper.set_random_state(int(state["draws"]))
        self.stepper.micro_tokens = min(self.stepper.micro_tokens, int(state["micro_tokens"]))

    def generate(self, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
        """What the student answers as it is now."""
        from localdistill.trainers.mlx.generating import answers

        model = self.adapted.model
        model.eval()
        try:
            yield from answers(model, self.folder, requests, cancel)
        finally:
            model.train()

    def write(self, folder: Path) -> None:
        """An adapter in PEFT's layout, and beside it one in mlx-lm's."""
        import torch

        tensors = {name: torch.from_numpy(np.array(value, copy=True))
                   for name, value in self.adapted.parameters().items()}
        targets = sorted({name.rpartition(".")[2] for name in self.adapted.targets})
        write_adapter(folder, tensors, rank=self.options.rank, alpha=self.options.alpha,
                      dropout=self.options.dropout, targets=targets, tags=list(self.adapted.tags),
                      tied=self.folder.tied_embeddings, fitted_to=self._fitted_to, kind=self.options.adapter)
        layout = self._mlx_layout()
        if layout.is_possible:
            layout.write(folder.with_name(f"{folder.name}_mlx"))
        else:
            self._emit(Warned(f"no adapter was written for mlx-lm: one of rank {layout.rank} cannot hold "
                              f"{len(layout.tags)} trained rows of tags", "the one in PEFT's layout is whole"))

    @property
    def _fitted_to(self) -> str:
        return "" if self.held.quantization == "none" else self.held.quantization

    def _mlx_layout(self) -> MlxLayout:
        adapted, index = self.adapted, mx.array(list(self.adapted.tags))
        embedding, head = (None if own is None else TagRows(own.base.weight[index], own.rows, own.base.weight.shape[0])
                           for own in (adapted.embedding, adapted.head))
        return MlxLayout(len(adapted.layers), self.options.rank, self.options.scaling,
                         self.options.dropout, {name: (one.down, one.up) for name, one in adapted.targets.items()},
                         list(adapted.tags), embedding, head, self._fitted_to)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that an allocation failed, on the GPU or on the CPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and (
        "unable to allocate" in text or "insufficient memory" in text or "out of memory" in text
        or "outofmemory" in text))
