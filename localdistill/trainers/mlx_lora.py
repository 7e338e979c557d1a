"""LoRA training of a student in MLX: the loop over the MLX backend, and what plans, evaluation and export ask of it.
Must not render templates or read the store.

Source of the training target: the paper's section 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.core.samples import TrainerSample
from localdistill.modelfiles.hardware import Hardware, MemoryPlan
from localdistill.modelfiles.mlx_held import held_identity, write_held
from localdistill.modelfiles.mlx_models import MlxDtype, MlxHolding, mlx_dtype
from localdistill.modelfiles.shape import StudentShape
from localdistill.modelfiles.trained import TrainedRow
from localdistill.trainers.job import Served, TrainingJob
from localdistill.trainers.mlx.options import MlxOptions
from localdistill.trainers.mlx.places import check_student_files, estimate_memory
from localdistill.trainers.report import REPORT_FILE, HeldBase, TrainingReport, TrainingResult

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


class MlxLoraTrainer:
    """Trains low-rank adapters on a frozen student in MLX."""

    class Options(MlxOptions):
        """Options of LoRA training in MLX."""

    name = "mlx_lora"
    engine = "mlx"

    @classmethod
    def samples(cls) -> Sequence[TrainerSample]:
        """Rows of a dataset, and what training on them comes to."""
        ids, weights = [[9, 10, 11, -1], [9, 12, 13, -1]], [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.5, 1.0]]
        options = {"rank": 2, "max_steps": 1}
        return (
            TrainerSample(ids, weights, 1, options=options),
            TrainerSample(ids, [weights[0], [0.0] * 4], options=options, refused="no token is trained"),
        )

    def __init__(self, options: MlxOptions | None = None) -> None:
        self.options = options or self.Options()

    def check(self, student: Path, max_tokens: int, hardware: Hardware) -> None:
        """mlx-lm computes it, its layers are there, and rows stay inside its window."""
        check_student_files(self.options, student, max_tokens, hardware)

    def estimate(self, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
        """Weights, adapter, activations, logits."""
        return estimate_memory(self.options, student, max_tokens, hardware)

    def held_base(self, student: Path) -> Mapping[str, object]:
        """Format, bits and group size of the quantized layers."""
        from localdistill.modelfiles.folder import ModelFolder

        return held_identity(ModelFolder.open(student), self.options.quantization, mlx_dtype(self.options.dtype))

    def hold_base(self, student: Path, folder: Path, emit: Emit, cancel: Cancel) -> None:
        """Quantize it, layer by layer."""
        from localdistill.modelfiles.folder import ModelFolder

        emit(Progressed("quantizing the base", 0, 0))
        write_held(ModelFolder.open(student), self.options.quantization, mlx_dtype(self.options.dtype), folder,
                   cancel.check)

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """The loop over MLX."""
        from localdistill.modelfiles.mlx_models import import_mlx

        import_mlx()
        from localdistill.trainers.loop import run_training
        from localdistill.trainers.mlx.backend import MlxBackend

        return run_training(self.name, self.options, job, MlxBackend(self.options), emit, cancel)

    def served(self, student: Path, output: Path | None, held: Path | None = None) -> Served:
        """By the engine `mlx`, base and arm alike with the base held as a training holds it. What is merged rests on
        those very weights, so that nothing is to be said of others."""
        places, of_weights = {"model": str(student)}, frozenset({"quantization"})
        if output is None:
            holding: MlxHolding = self.options.quantization
            dtype: str = mlx_dtype(self.options.dtype)
        else:
            places["adapter"] = str(output / "adapter")
            base = report_of(output).base
            holding, dtype = (holding_of(base), base.dtype) if base is not None else ("none", "")
        if held is not None and holding != "none":
            places["held"] = str(held)
        options = {} if holding == "none" else {"quantization": holding, "dtype": dtype}
        return Served(self.engine, options, places, "", of_weights)

    def merge(self, student: Path, output: Path | None, merged: Path, emit: Emit, cancel: Cancel) -> None:
        """Into the weights that it was trained on: quantized ones as they come out of their few bits."""
        from localdistill.modelfiles.folder import ModelFolder
        from localdistill.modelfiles.mlx_models import as_held
        from localdistill.trainers.merge import merge

        held = report_of(output).base if output is not None else None
        if output is None or held is None or holding_of(held) == "none":
            merge(student, None if output is None else output / "adapter", merged, emit=emit, cancel=cancel)
            return
        dtype: MlxDtype = "bfloat16" if held.dtype == "bfloat16" else "float32"
        base = as_held(ModelFolder.open(student), holding_of(held), dtype)
        merge(student, output / "adapter", merged, emit=emit, cancel=cancel, held=base)

    def logprobs(self, student: Path, output: Path, rows: Sequence[TrainedRow], cancel: Cancel) -> list[Floats]:
        """By MLX: in float32, or in the precision of the training where the base was quantized."""
        from localdistill.modelfiles.mlx_trained import logprobs_as_trained_in_mlx

        held = report_of(output).base
        holding: MlxHolding = holding_of(held) if held else "none"
        dtype: MlxDtype = "bfloat16" if held and holding != "none" and held.dtype == "bfloat16" else "float32"
        return [*logprobs_as_trained_in_mlx(student, output / "adapter", holding, dtype, rows, cancel)]


def report_of(output: Path) -> TrainingReport:
    """The report of the training that filled `output`."""
    file = output / REPORT_FILE
    return TrainingReport.from_bytes(file.read_bytes(), str(file))


def holding_of(held: HeldBase) -> MlxHolding:
    """How the base was held, as an option."""
    name = held.quantization.removeprefix("mlx-").partition("-")[0]
    return "4bit" if name == "4bit" else "8bit" if name == "8bit" else "none"
