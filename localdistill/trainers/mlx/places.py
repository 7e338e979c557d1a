"""Where a training in MLX runs, in which arithmetic, and what memory that takes: one answer for check, plan, doctor and
the training itself. Must not import mlx when it is imported."""

from __future__ import annotations

import sys
from pathlib import Path

from localdistill.core.errors import ModelFileError, UsageError
from localdistill.modelfiles.apple import find_chip
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware, MemoryPlan
from localdistill.modelfiles.mlx_models import group_size, import_mlx, mlx_dtype, require_mlx
from localdistill.modelfiles.shape import StudentShape
from localdistill.trainers._targets import require_targets
from localdistill.trainers.mlx.options import MlxOptions

MICRO_TOKENS = 4096
"""Tokens that go through the student at once unless told otherwise."""
LOGIT_BYTES = 3 * (64 << 20)
"""What the head holds at most: a chunk of logits three times."""
CACHE_BYTES = 512 << 20
"""What MLX may keep of freed memory: without a limit it grows to many times what is in use."""
QUANTIZED_BYTES = {"4bit": 0.5625, "8bit": 1.0625, "none": 0.0}
"""Per weight, with 16-bit scales of groups of 64."""


def check_student_files(options: MlxOptions, student: Path, max_tokens: int, hardware: Hardware) -> None:
    """Raise what speaks against training the student in the folder `student` on rows of up to `max_tokens`."""
    folder = ModelFolder.open(student)
    require_mlx()
    folder.kind.mlx_config(folder.config)
    limit = folder.kind.mlx_limit(folder.config)
    if limit is not None and limit < max_tokens:
        raise ModelFileError(f"{folder.path}: rows of {max_tokens} tokens look back through a window of "
                             f"{limit}, which mlx-lm does not compute for this kind of student",
                             f'set student.max_tokens to at most {limit}, or train.use = "torch_lora"')
    if options.adapter not in ("lora", "rslora"):
        raise UsageError(f'train.adapter = "{options.adapter}" is not computed in MLX',
                         'take lora or rslora, or train.use = "torch_lora"')
    require_targets(folder, options.targets)
    if options.quantization != "none":
        group_size(folder)


def estimate_memory(options: MlxOptions, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
    """Least memory that one training takes: weights, adapter with its optimizer, a single row with the input of every
    layer and the work of one, and the head's chunk.

    Micro-batches are made smaller until they are single rows, so only that must fit. Activations of a layer are 34
    values of one byte per hidden size and token at 16 bits (Korthikanti et al., arXiv 2205.05198).
    """
    width = 2 if mlx_dtype(options.dtype, hardware.chip) == "bfloat16" else 4
    each = QUANTIZED_BYTES[options.quantization] or width
    tokens = max_tokens
    parts = {
        "weights": int(student.linear_weights * each + student.embedding_weights * width),
        "adapter": student.adapter_weights(options.rank, options.targets) * 16,
        "activations": int(tokens * student.hidden_size * width * (student.layers + 2 * 17)),
        "logits": min(LOGIT_BYTES, 12 * tokens * student.vocab_size),
        "libraries": CACHE_BYTES,
    }
    how = {"none": "LoRA", "4bit": "QLoRA (4 bits)", "8bit": "QLoRA (8 bits)"}[options.quantization]
    return MemoryPlan(parts, hardware.mlx_place(options.memory_share), f"{how} in MLX")


def use_memory(share: float) -> None:
    """Bound what MLX keeps of freed memory, and what it takes before it waits for what is in use to come free."""
    mx, chip = import_mlx(), find_chip()
    if chip is not None:
        mx.set_memory_limit(int(share * chip.gpu_limit_bytes))
    mx.set_cache_limit(CACHE_BYTES)
    mx.reset_peak_memory()


def peak_bytes() -> int:
    """The most memory used so far: the whole process, which is more than MLX itself counts."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = peak if sys.platform == "darwin" else peak * 1024
    return max(whole, int(import_mlx().get_peak_memory()))
