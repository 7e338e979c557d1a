"""Where a training in torch runs, in which arithmetic, and what memory that takes: one answer for check, plan, doctor
and the training itself. Must not import torch when it is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from localdistill.core.borders import BORDERS
from localdistill.core.errors import MissingExtra, UsageError
from localdistill.core.events import Emit, Warned
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware, MemoryPlan, StudentShape
from localdistill.trainers._targets import require_targets
from localdistill.trainers.torch.options import TorchOptions

if TYPE_CHECKING:
    import torch

NF4_BYTES = 0.53
"""Per weight: 4 bits and its scales, quantized again (QLoRA, arXiv 2305.14314, section 3: 0.127 bits of scales)."""
MICRO_TOKENS = 4096
"""Padded tokens that go through the student at once unless told otherwise."""
CONTEXT_BYTES = 600 << 20
"""What a GPU's libraries take before the first weight is there."""


def check_student_files(options: TorchOptions, student: Path, hardware: Hardware) -> None:
    """Raise what speaks against training the student in the folder `student` with `options` on `hardware`."""
    folder = ModelFolder.open(student)
    for package in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of("train", package)
    require_targets(folder, options.targets)
    place = hardware.place(options.device)
    if options.device.startswith("cuda") and place.gpu is None:
        raise UsageError(f'train.device = "{options.device}": {place.unused or "there is no such GPU"}',
                         place.fix or 'see localdistill doctor, or take device = "auto"')
    if options.device == "mps" and not any(gpu.kind == "metal" for gpu in hardware.gpus):
        raise UsageError('train.device = "mps": there is no Apple GPU', 'take device = "auto"')
    if is_nf4(options, place.gpu is not None) and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra.of("train", "bitsandbytes")


def is_nf4(options: TorchOptions, on_gpu: bool) -> bool:
    """Whether the frozen weights are held in NF4."""
    return options.quantization == "nf4" or (options.quantization == "auto" and on_gpu)


def estimate_memory(options: TorchOptions, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
    """Least memory that one training takes: weights, adapter with its optimizer, one piece of a batch.

    On a GPU pieces are made smaller until they are single rows and then activations are recomputed, so only that must
    fit; main memory running out is noticed by nobody, so there a whole piece counts. Activations of a layer are 34
    values of one byte per hidden size and token at 16 bits (Korthikanti et al., arXiv 2205.05198); recomputed ones are
    its input, and one layer's all. NF4 leaves embedding and output projection as they are.
    """
    place = hardware.place(options.device)
    on_gpu = place.gpu is not None
    width = _width(options.dtype, on_gpu, hardware)
    kept = min(student.parameter_count, 2 * student.vocab_size * student.hidden_size)
    nf4 = is_nf4(options, on_gpu)
    weights = (student.parameter_count - kept) * NF4_BYTES + kept * width if nf4 else student.parameter_count * width
    layer = 17 * width * student.hidden_size
    if on_gpu or options.gradient_checkpointing:
        tokens, each = max_tokens, student.layers * student.hidden_size * width + layer
    else:
        tokens, each = max(max_tokens, options.micro_tokens or MICRO_TOKENS), student.layers * layer
    parts = {
        "weights": int(weights),
        "adapter": _adapter_parameters(student, options.rank) * 16,
        "activations": int(tokens * each),
        "logits": 3 * min(BORDERS.logit_bytes, 4 * tokens * student.vocab_size),
        "libraries": CONTEXT_BYTES if on_gpu else 0,
    }
    return MemoryPlan(parts, place, "QLoRA (NF4)" if nf4 else "LoRA" if on_gpu else "LoRA on the CPU")


def _width(dtype: str, on_gpu: bool, hardware: Hardware) -> int:
    """Bytes of one number of the frozen student."""
    if dtype == "auto":
        return 2 if on_gpu or hardware.multiplies_bf16 else 4
    return 4 if dtype == "float32" else 2


def _adapter_parameters(student: StudentShape, rank: int) -> int:
    """LoRA parameters on all linear layers: rank times the sum of both sides, about 14 hidden sizes per layer."""
    return 14 * rank * student.hidden_size * student.layers


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
