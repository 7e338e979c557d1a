"""What this machine has, where a training would run, and what it would need there: the one answer for plan, doctor and
training. Looking loads no model library."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from localdistill.core.installing import pip
from localdistill.modelfiles.apple import AppleChip, find_chip
from localdistill.modelfiles.devices import (
    Gpu,
    TorchBuild,
    best_of,
    find_gpus,
    torch_build,
    why_unused,
    with_what_torch_sees,
)

__all__ = ["Gpu", "Hardware", "MemoryPlan", "Place", "look_at_hardware", "processor"]

_16_BIT_CHIPS = ("amx_tile", "avx512_bf16")


USUAL_TOKENS = 2048
"""Rows of a training, unless told otherwise: the default of `student.max_tokens`."""


@dataclass(frozen=True)
class Place:
    """Where a training would run."""

    name: str
    """As it stands in a sentence about memory: `on NVIDIA T4`, `of main memory`."""
    free_bytes: int | None
    """None: not known."""
    gpu: Gpu | None = None
    """None: the CPU."""
    idle: Gpu | None = None
    """A GPU that is there and not taken."""
    unused: str = ""
    """Why it is not."""
    fix: str = ""
    """What to do about it."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a training takes at least, part by part, and where it would run."""

    parts: Mapping[str, int]
    """What of it -> bytes."""
    place: Place
    how: str
    """The kind of training, as it stands in a sentence: `QLoRA (NF4)`."""
    gives_way: tuple[str, ...] = ()
    """What has to give way for that, in the words of a list: `activations computed again`."""
    host_bytes: int = 0
    """What lies in main memory for it, where it runs on a GPU."""
    host_free_bytes: int | None = None
    """How much of that is free; None: not known."""
    streams: bool = False
    """The weights come from main memory anew at every step."""

    @property
    def fits(self) -> bool:
        """All of it is free, or nobody knows."""
        return all(free is None or need <= free for need, free in (
            (self.total_bytes, self.place.free_bytes), (self.host_bytes, self.host_free_bytes)))

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Hardware:
    """This machine."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    free_memory_bytes: int
    gpus: tuple[Gpu, ...]
    torch: TorchBuild = field(default_factory=TorchBuild)
    hidden_gpus: str = ""
    """What the environment hides of the GPUs; empty when nothing."""
    multiplies_bf16: bool = False
    """Whether the processor has instructions for bfloat16."""
    chip: AppleChip | None = None
    """On Apple silicon, where MLX and Metal are to be had."""

    def mlx_place(self, share: float = 1.0) -> Place:
        """Where a training in MLX runs: on the Apple GPU, with `share` of what macOS lets it hold, else on the CPU."""
        if self.chip is None:
            return Place("of main memory", self.free_memory_bytes)
        free = min(self.free_memory_bytes, int(share * self.chip.gpu_limit_bytes))
        return Place(f"of unified memory, on the GPU of {self.chip.name}", free)

    def place(self, device: str = "auto") -> Place:
        """Where a training told `device` runs, as `torch_lora` chooses."""
        kind, _, index = device.partition(":")
        if kind == "mps":
            return Place("of main memory, on the Apple GPU", self.free_memory_bytes)
        fits = [gpu for gpu in self.gpus if gpu.kind != "metal" and not why_unused(gpu, self.torch)]
        kinds = {gpu.kind for gpu in fits}
        fits = [gpu for gpu in fits if gpu.kind == ("cuda" if "cuda" in kinds else "hip")]
        if kind in ("auto", "cuda") and fits:
            number = int(index) if index.isdecimal() else best_of([gpu.total_bytes for gpu in fits])
            gpu = fits[min(number, len(fits) - 1)]
            return Place(f"on {gpu.name}", gpu.free_bytes, gpu)
        if kind == "cpu" or not self.gpus:
            return Place("of main memory", self.free_memory_bytes)
        gpu = next((gpu for gpu in self.gpus if gpu.kind != "metal"), self.gpus[0])
        return Place("of main memory", self.free_memory_bytes, None, gpu, why_unused(gpu, self.torch),
                     mend(gpu, self.torch))



def mend(gpu: Gpu, build: TorchBuild) -> str:
    """What to do so that torch takes `gpu`."""
    if gpu.kind == "metal":
        return 'try --set train.device="mps"'
    plain = build.version.split("+")[0]
    if gpu.kind == build.kind:
        return "update the driver of the GPU, then restart"
    if gpu.kind == "hip" or platform.system() == "Windows":
        what = "ROCm" if gpu.kind == "hip" else "CUDA"
        return f"install torch {plain} for {what}, with the command that pytorch.org/get-started/locally shows"
    return pip("--force-reinstall", f"torch=={plain}")


def look_at_hardware() -> Hardware:
    """This machine as it is now."""
    import psutil

    memory = psutil.virtual_memory()
    build, (gpus, hidden) = torch_build(), find_gpus()
    return Hardware(
        platform.system(),
        processor(),
        psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        memory.total,
        memory.available,
        with_what_torch_sees(gpus, build),
        build,
        hidden,
        any(flag in _said_of_cpu("flags").split() for flag in _16_BIT_CHIPS),
        find_chip(),
    )


def processor() -> str:
    """The name of the processor."""
    return _said_of_cpu("model name") or platform.processor() or platform.machine()


def _said_of_cpu(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            return next((line.split(":", 1)[1].strip() for line in handle if line.startswith(key)), "")
    except OSError:
        return ""
