"""LoRA training of a student in torch, on a CPU or one GPU. Checks every row before the first step, measures memory
on the heaviest batch, and stops at the first number that is not finite. Must not render templates or read the store.

Source of the training target: the paper's section 3; of QLoRA's NF4, https://arxiv.org/abs/2305.14314."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from localdistill.core.errors import InputError, UsageError
from localdistill.core.events import Cancel, Counted, Emit, Noted, Warned
from localdistill.core.options import DeviceName
from localdistill.core.records import content_id
from localdistill.core.samples import TrainerSample
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware, look_at_hardware
from localdistill.trainers._options import AdapterOptions, LoopOptions
from localdistill.trainers.base import TrainingJob
from localdistill.trainers.report import REPORT_FILE, HeldBase, TrainingReport, TrainingResult

if TYPE_CHECKING:
    import torch

    from localdistill.trainers._rows import Dataset


class TorchLoraTrainer:
    """Trains low-rank adapters on a frozen student."""

    class Options(LoopOptions, AdapterOptions):
        """Options of LoRA training."""

        micro_tokens: int = Field(0, ge=0)
        """Padded tokens that go through the student at once; 0 picks 4096. It is halved when memory runs out, which
        does not change the result of a step."""
        quantization: Literal["auto", "none", "nf4"] = "auto"
        """How frozen weights are held: `nf4` needs a quarter of the memory. `auto` is nf4 on CUDA, none on a CPU."""
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Arithmetic of the frozen student. `auto` is bfloat16 where the hardware computes it, else float16 on a GPU
        and float32 on a CPU. The adapter itself is always float32."""
        device: DeviceName = "auto"
        """`auto` takes the NVIDIA or AMD GPU with the most memory, else the CPU; or `cpu`, `cuda`, `cuda:1`, `mps`."""
        threads: int = Field(0, ge=0)
        """CPU threads; 0 leaves torch's choice."""

    name = "torch_lora"

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

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """Fill `job.output` with `adapter/` and `training.json`, resuming from a checkpoint of the same training.

        Raises InputError for rows that must not be trained on, Cancelled after writing a checkpoint.
        """
        from localdistill.modelfiles.loading import device_name, import_torch, load_causal_model, pick_device

        torch = import_torch()
        from localdistill.trainers._attention import use_short_rows
        from localdistill.trainers._loop import TrainingLoop
        from localdistill.trainers._lora import attach_lora, attach_tags
        from localdistill.trainers._rows import check_rows, read_rows
        from localdistill.trainers._steps import Stepper

        options = self.options
        if options.threads:
            torch.set_num_threads(options.threads)
        folder = ModelFolder.open(job.student)
        rows = read_rows(job.rows)
        check_rows(rows, folder.vocab_size, job.stop_token_id, folder.context_length, job.objective)
        tags = sorted(set(job.tag_token_ids))
        if any(not 0 <= tag < folder.vocab_size for tag in tags):
            raise InputError(f"a tag token of {tags} is outside the student's vocabulary")
        emit(Counted("dataset", {
            "rows": len(rows), "tokens": rows.starts[-1], "trained_tokens": int((rows.weights > 0).sum()),
            "longest_row": max(rows.lengths)}))
        device = pick_device(options.device)
        if device.type == "cpu" and options.device == "auto":
            emit_idle_gpu(emit, look_at_hardware())
        dtype = training_dtype(options.dtype, device)
        quantization = options.quantization
        if quantization == "auto":
            quantization = "nf4" if device.type == "cuda" else "none"
        torch.manual_seed(job.seed)
        model = load_causal_model(folder, dtype, device, quantization)
        try:
            trained = attach_lora(model, options.targets, options.rank, options.alpha / options.rank,
                                  options.dropout, job.seed)
        except ValueError as error:
            raise UsageError(f"targets: {error}", "use all-linear, or names of the student's layers") from error
        use_short_rows(model, max(rows.lengths))
        trained |= attach_tags(model, tags, folder.tied_embeddings)
        emit(Noted(f"{sum(p.numel() for p in trained.values()):,} trained of {folder.parameter_count:,} "
                   f"parameters, {str(dtype).removeprefix('torch.')}, {quantization}, "
                   f"{device_name(device)}"))
        stepper = Stepper(model, rows, job.objective, device, options.micro_tokens or 4096)
        loop = TrainingLoop(options, job, model, trained, stepper, self._fingerprint(job, folder, rows), emit, cancel)
        result = loop.run()
        held = HeldBase(quantization, str(dtype).removeprefix("torch."))
        self._write(job, held, trained, tags, folder, result)
        return result

    def _fingerprint(self, job: TrainingJob, folder: ModelFolder, rows: Dataset) -> str:
        """Identity of this training: a checkpoint of any other one must not be resumed."""
        told = self.options.model_dump(exclude={"checkpoint_every_s", "checkpoint_every_steps", "threads"})
        objective = getattr(job.objective, "options", None)
        return content_id("training", told, job.objective.name, objective.model_dump() if objective else {},
                          job.seed, folder.digest(), rows.identity(), list(job.tag_token_ids))

    def _write(self, job: TrainingJob, held: HeldBase, trained: dict[str, torch.nn.Parameter], tags: list[int],
               folder: ModelFolder, result: TrainingResult) -> None:
        from localdistill.modelfiles.adapter import write_adapter

        targets = sorted({name.split(".")[-3] for name in trained if name.endswith(".lora_A.weight")})
        write_adapter(job.output / "adapter", {name: value.detach() for name, value in trained.items()},
                      rank=self.options.rank, alpha=self.options.alpha, dropout=self.options.dropout, targets=targets,
                      tags=tags, tied=folder.tied_embeddings)
        report = TrainingReport(self.name, job.arm, job.seed, folder.digest(), job.objective.name,
                                self.options.model_dump(), result, held)
        partial = job.output / f"{REPORT_FILE}.partial"
        partial.write_bytes(report.to_bytes())
        partial.replace(job.output / REPORT_FILE)
        shutil.rmtree(job.output / "checkpoints", ignore_errors=True)


def emit_idle_gpu(emit: Emit, hardware: Hardware) -> None:
    """Warn of a GPU that a training on the CPU leaves idle."""
    place = hardware.place()
    idle = place.gpu or place.idle
    if idle is not None and idle.kind != "metal":
        unused = place.unused or f"torch {hardware.torch.version} cannot use it"
        emit(Warned(f"training runs on the CPU although this machine has a GPU ({idle.name}): {unused}",
                    place.fix or "localdistill doctor says more"))


def training_dtype(name: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device) -> torch.dtype:
    """`auto` on a CPU is bfloat16 where the chip multiplies it (AMX or AVX512-BF16), which is several times faster."""
    import torch

    from localdistill.modelfiles.loading import pick_dtype

    if name == "auto" and device.type == "cpu":
        checks = [getattr(torch.cpu, check, None) for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
        return torch.bfloat16 if any(check and check() for check in checks) else torch.float32
    return pick_dtype(name, device)
