"""LoRA training of a student in torch, on a CPU or one GPU: the loop over the torch backend, and what plans, evaluation
and export ask of it. Must not render templates or read the store.

Source of the training target: the paper's section 3; of QLoRA's NF4, https://arxiv.org/abs/2305.14314."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.errors import MissingExtra, UsageError
from localdistill.core.events import Cancel, Emit
from localdistill.core.samples import TrainerSample
from localdistill.modelfiles.hardware import Hardware, MemoryPlan
from localdistill.modelfiles.shape import StudentShape
from localdistill.modelfiles.trained import TrainedRow, logprobs_streamed
from localdistill.trainers._options import TAKEN_FROM_BASE
from localdistill.trainers.job import Served, TrainingJob
from localdistill.trainers.report import REPORT_FILE, HeldBase, TrainingReport, TrainingResult
from localdistill.trainers.torch.options import TorchOptions
from localdistill.trainers.torch.places import check_student_files, estimate_memory, is_nf4

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


class TorchLoraTrainer:
    """Trains low-rank adapters on a frozen student."""

    class Options(TorchOptions):
        """Options of LoRA training."""

    name = "torch_lora"
    engine = "transformers"

    @classmethod
    def samples(cls) -> Sequence[TrainerSample]:
        """Rows of a dataset, and what training on them comes to."""
        ids, weights = [[9, 10, 11, -1], [9, 12, 13, -1]], [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.5, 1.0]]
        options = {"rank": 2, "device": "cpu", "max_steps": 1}
        return (
            TrainerSample(ids, weights, 1, options=options),
            TrainerSample(ids, [weights[0], [0.0] * 4], options=options, refused="no token is trained"),
            TrainerSample([[9, 300_000, -1]], [[0.0, 1.0, 1.0]], options=options, refused="outside the vocabulary"),
        )

    def __init__(self, options: TorchOptions | None = None) -> None:
        self.options = options or self.Options()

    def check(self, student: Path, max_tokens: int, hardware: Hardware) -> None:
        """Its layers are there, and device and arithmetic are to be had."""
        check_student_files(self.options, student, hardware)
        if importlib.util.find_spec("peft") is None:
            raise MissingExtra.of("train", "peft")
        nf4 = is_nf4(self.options, hardware.place(self.options.device).gpu is not None)
        if nf4 and self.options.adapter in TAKEN_FROM_BASE:
            raise UsageError(f'train.adapter = "{self.options.adapter}" takes a part of the weights away, which NF4 '
                             "weights cannot spare", 'set train.quantization = "none", or train.adapter = "lora"')

    def estimate(self, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
        """Weights, adapter, activations, logits."""
        return estimate_memory(self.options, student, max_tokens, hardware)

    def held_base(self, student: Path) -> Mapping[str, object]:
        """NF4 is made anew at every load, by bitsandbytes."""
        return {}

    def hold_base(self, student: Path, folder: Path, emit: Emit, cancel: Cancel) -> None:
        """There is nothing to make."""

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """The loop over torch."""
        from localdistill.modelfiles.loading import import_torch

        import_torch()  # before anything else imports it, so that it shares the machine
        from localdistill.trainers.loop import run_training
        from localdistill.trainers.torch.backend import TorchBackend

        return run_training(self.name, self.options, job, TorchBackend(self.options), emit, cancel)

    def served(self, student: Path, output: Path | None, held: Path | None = None) -> Served:
        """By the engine `transformers`. An adapter that was fitted to quantized weights is answered on those."""
        places, of_weights = {"model": str(student)}, frozenset({"quantization"})
        base = None if output is None else quantized_base(output)
        if output is not None:
            places["adapter"] = str(output / "adapter")
        options = {"quantization": base.quantization, "dtype": base.dtype} if base else {}
        return Served(self.engine, options, places, options.get("quantization", ""), of_weights)

    def merge(self, student: Path, output: Path | None, merged: Path, emit: Emit, cancel: Cancel) -> None:
        """Into the stored weights, NF4 or not."""
        from localdistill.trainers.merge import merge

        merge(student, None if output is None else output / "adapter", merged, emit=emit, cancel=cancel)

    def logprobs(self, student: Path, output: Path, rows: Sequence[TrainedRow], cancel: Cancel) -> list[Floats]:
        """In float32, with the weights of one block in memory at a time."""
        from localdistill.modelfiles.adapter import AdapterFolder
        from localdistill.modelfiles.folder import ModelFolder
        from localdistill.modelfiles.held import held_in_nf4
        from localdistill.modelfiles.streamed import StreamedModel

        folder, base = ModelFolder.open(student), quantized_base(output)
        model = StreamedModel(folder, AdapterFolder.open(output / "adapter", folder),
                              held_in_nf4(folder, base.dtype) if base else None)
        return [*logprobs_streamed(model, rows, cancel)]


def quantized_base(output: Path) -> HeldBase | None:
    """How the base was held by the training that filled `output`; None where it was held as it is stored, or its report
    does not say."""
    file = output / REPORT_FILE
    held = TrainingReport.from_bytes(file.read_bytes(), str(file)).base if file.is_file() else None
    return held if held is not None and held.quantization != "none" else None
