"""Where a training in torch runs, in which arithmetic, and what memory that takes: one answer for check, plan, doctor
and the training itself. Must not import torch when it is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from localdistill.core.borders import BORDERS
from localdistill.core.errors import MissingExtra, UsageError
from localdistill.core.events import Emit, Warned
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import Hardware, MemoryPlan, Place
from localdistill.modelfiles.shape import StudentShape
from localdistill.trainers._targets import require_targets
from localdistill.trainers.torch.options import TorchOptions

if TYPE_CHECKING:
    import torch

NF4_BYTES = 0.53
"""Per weight: 4 bits and its scales, quantized again (QLoRA, arXiv 2305.14314, section 3: 0.127 bits of scales)."""
LEAST_TOKENS, MOST_TOKENS = 1024, 4096
"""Tokens that go through the student at once unless told otherwise, at least and at most."""
KEPT_BYTES = 256 << 20
"""As many of them as keep so much for the way back on a CPU, where more are faster for small students alone."""
KEPT_SHARE = 8
"""As many of them as keep this part of a GPU's memory."""
CONTEXT_BYTES = 600 << 20
"""What a GPU's libraries take before the first weight is there."""
PROCESS_BYTES = 500 << 20
"""What a process takes that has imported torch, transformers and peft, measured (`benchmarks.memory`)."""
NF4_PROCESS_BYTES = 100 << 20
"""The same of bitsandbytes, and of quantizing."""
TRAINED_BYTES = 16
"""Of each trained weight: itself, its gradient and AdamW's two moments, in float32."""
RUNGS = {
    "host_embedding": "the embedding in main memory",
    "recompute": "activations computed again",
    "host_activations": "what layers are given in main memory",
    "host_head": "the output projection from main memory",
    "stream": "frozen layers from main memory, one by one",
}
"""What can give way beside smaller pieces, by the names that checkpoints know -> in the words of a list."""


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


@dataclass(frozen=True)
class LadderPosition:
    """How a training is held: the tokens that go through the student at once, and what gave way for the memory."""

    micro_tokens: int
    rungs: tuple[str, ...] = ()
    """By name; see `RUNGS`."""


def estimate_memory(options: TorchOptions, student: StudentShape, max_tokens: int, hardware: Hardware) -> MemoryPlan:
    """Memory that one training takes, part by part, with as little giving way as it takes to fit."""
    return held_as_it_fits(options, student, max_tokens, hardware)[1]


def held_as_it_fits(options: TorchOptions, student: StudentShape, max_tokens: int,
                    hardware: Hardware) -> tuple[LadderPosition, MemoryPlan]:
    """The highest place on the ladder at which a training on rows of up to `max_tokens` fits, the lowest where none
    does; and what it takes there."""
    place = hardware.place(options.device)
    on_gpu = place.gpu is not None
    width, nf4 = _width(options.dtype, on_gpu, hardware), is_nf4(options, on_gpu)
    how = "QLoRA (NF4)" if nf4 else "LoRA" if on_gpu else "LoRA on the CPU"
    most = max(max_tokens, options.micro_tokens or usual_tokens(student, width, place))
    for position in _ladder(options, student, max_tokens, most, on_gpu):
        plan = MemoryPlan(
            _parts(options, student, position, width, nf4, on_gpu), place, how,
            _gave_way(options, most, position),
            _host_bytes(student, max_tokens, position.rungs, width, nf4) if on_gpu else 0,
            hardware.free_memory_bytes if on_gpu else None, "stream" in position.rungs)
        if plan.fits:
            break
    return position, plan


def usual_tokens(student: StudentShape, width: int, place: Place) -> int:
    """How many tokens go through the student at once where nobody says: a power of two, never by what is free just
    now."""
    token = student.layers * kept_bytes(student, width) + working_bytes(student, width)
    fit = (KEPT_BYTES if place.gpu is None else (place.gpu.total_bytes or 0) // KEPT_SHARE) // token
    return min(MOST_TOKENS, max(LEAST_TOKENS, 1 << max(0, fit.bit_length() - 1)))


def _gave_way(options: TorchOptions, most: int, position: LadderPosition) -> tuple[str, ...]:
    """What gave way that the options did not ask for, in the words of a list. most: tokens at once where nothing
    does."""
    tokens = position.micro_tokens
    smaller = [f"{tokens:,} tokens at once"] if tokens < most else []
    return (*smaller, *(RUNGS[rung] for rung in position.rungs if not _told(options, rung)))


def _told(options: TorchOptions, rung: str) -> bool:
    """Whether it is no emergency: the recipe asks for it."""
    return rung == "recompute" and options.gradient_checkpointing


def _ladder(options: TorchOptions, student: StudentShape, max_tokens: int, most: int,
            on_gpu: bool) -> Iterator[LadderPosition]:
    """From the highest place, with `most` tokens at once, to the lowest, in the order in which they give way."""
    tokens, rungs = most, [rung for rung in RUNGS if _told(options, rung)]
    yield LadderPosition(tokens, tuple(rungs))
    if on_gpu and not student.tied:
        rungs.append("host_embedding")
        yield LadderPosition(tokens, tuple(rungs))
    while tokens > max_tokens:
        tokens = max(max_tokens, tokens // 2)
        yield LadderPosition(tokens, tuple(rungs))
    for rung in ("recompute", *(("host_activations", "host_head", "stream") if on_gpu else ())):
        if rung not in rungs:
            rungs.append(rung)
            yield LadderPosition(tokens, tuple(rungs))


def _parts(options: TorchOptions, student: StudentShape, position: LadderPosition, width: int, nf4: bool,
           on_gpu: bool) -> dict[str, int]:
    """Bytes by what takes them. width: bytes of one number of the frozen student."""
    tokens, rungs = position.micro_tokens, position.rungs
    linear = student.linear_weights * (NF4_BYTES if nf4 else width)
    if "stream" in rungs:
        linear *= 2 / student.layers
    embedding = student.embedding_weights * width
    if "host_head" in rungs:
        embedding = BORDERS.head_slice_bytes
    elif "host_embedding" in rungs:
        embedding //= 2
    block = kept_bytes(student, width)
    inputs = student.layers * student.hidden_size * width
    if "host_activations" in rungs:
        kept = block + 2 * student.hidden_size * width
    else:
        kept = block + inputs if "recompute" in rungs else student.layers * block
    adapter = student.adapter_weights(options.rank, options.targets)
    parts = {
        "weights": linear + embedding + (student.largest_linear * width if nf4 else 0),
        "adapter": adapter * (TRAINED_BYTES + (0 if "recompute" in rungs else width)),
        "activations": tokens * (kept + working_bytes(student, width)),
        # Beside them on a GPU their powers of e, in float32.
        "logits": (1 + (4 // width if on_gpu else 0)) * min(BORDERS.logit_bytes, width * tokens * student.vocab_size),
        "libraries": CONTEXT_BYTES if on_gpu else PROCESS_BYTES + (NF4_PROCESS_BYTES if nf4 else 0),
    }
    if "host_head" in rungs:
        parts["logits"] = BORDERS.head_positions * 12 * BORDERS.head_slice_bytes // (student.hidden_size * width)
    return {name: int(size) for name, size in parts.items()}


def _host_bytes(student: StudentShape, tokens: int, rungs: Sequence[str], width: int, nf4: bool) -> int:
    """What lies in main memory instead, with the process itself."""
    embedding = student.vocab_size * student.hidden_size * width
    found: float = PROCESS_BYTES
    found += embedding if {"host_embedding", "host_head"} & set(rungs) else 0
    found += embedding if "host_head" in rungs and not student.tied else 0
    found += student.layers * tokens * student.hidden_size * width if "host_activations" in rungs else 0
    found += student.linear_weights * (NF4_BYTES if nf4 else width) if "stream" in rungs else 0
    return int(found)


def kept_bytes(student: StudentShape, width: int) -> int:
    """What the way back needs of one block for each token: inputs and outcomes of norms; queries, keys, values and what
    comes of them; gate and up (`blocks.py`)."""
    wide = max(wide for _, wide in student.linears.values())
    queries = student.linears["o_proj"][1]
    rest = sum(out for name, (out, _) in student.linears.items() if name in ("q_proj", "k_proj", "v_proj", "qkv_proj"))
    return width * (4 * student.hidden_size + rest + queries + 2 * wide)


def working_bytes(student: StudentShape, width: int) -> int:
    """What one block takes for each token while the gradient goes through it: what gate and up come to is computed
    again."""
    wide = max(wide for _, wide in student.linears.values())
    return width * (5 * wide + 4 * student.hidden_size)


def _width(dtype: str, on_gpu: bool, hardware: Hardware) -> int:
    """Bytes of one number of the frozen student."""
    if dtype == "auto":
        return 2 if on_gpu or hardware.multiplies_bf16 else 4
    return 4 if dtype == "float32" else 2


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
