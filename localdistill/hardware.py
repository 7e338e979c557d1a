"""What this machine has, and what a training would need of it. Looking loads no model library; a GPU is asked through
NVIDIA's management library when that is installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.modelfiles.folder import ModelFolder

NF4_BYTES = 0.5625
"""Per weight: 4 bits plus one fp32 scale per 64 weights (QLoRA, arXiv 2305.14314, without double quantization)."""
MICRO_TOKENS = 4096
"""What `torch_lora` puts through the student at once unless told otherwise."""
STUDENT_SIZES = (("0.5B", 0.5e9), ("1.5B", 1.5e9), ("3B", 3e9), ("7B", 7e9), ("8B", 8e9), ("14B", 14e9), ("32B", 32e9))


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Hardware:
    """This machine."""

    system: str
    processor: str
    cores: int
    memory_bytes: int
    free_memory_bytes: int
    gpus: tuple[Gpu, ...]

    @property
    def is_apple_silicon(self) -> bool:
        """True where MLX and Metal are to be had."""
        return self.system == "Darwin" and platform.machine() == "arm64"

    @property
    def training_device(self) -> str:
        """Where a training would run."""
        return f"on {self.gpus[0].name}" if self.gpus else "of main memory"

    @property
    def training_memory_bytes(self) -> int:
        """Free memory where a training would run."""
        return self.gpus[0].free_bytes if self.gpus else self.free_memory_bytes


def look_at_hardware() -> Hardware:
    """This machine as it is now."""
    import psutil

    memory = psutil.virtual_memory()
    return Hardware(
        platform.system(),
        processor(),
        psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        memory.total,
        memory.available,
        tuple(_gpus()),
    )


def processor() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[Gpu]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            name = pynvml.nvmlDeviceGetName(handle)
            found.append(Gpu(name if isinstance(name, str) else name.decode(), memory.total, memory.free))
        return found
    except pynvml.NVMLError:
        return []


def training_memory_bytes(folder: ModelFolder, options: Mapping[str, Any], max_tokens: int, hardware: Hardware) -> int:
    """Estimated peak of one LoRA training in bytes: weights, adapter with its optimizer, activations of a micro-batch.

    Weights are NF4 on a GPU unless told otherwise. Activations count 34 values of the hidden size per layer and token
    (Korthikanti et al., arXiv 2205.05198, without recomputation) and one row of logits per token.
    """
    quantized = options.get("quantization") == "nf4" or (
        options.get("quantization", "auto") == "auto" and hardware.gpus
    )
    weight_bytes = NF4_BYTES if quantized else 2.0
    adapter = _adapter_parameters(folder, int(options.get("rank", 16)))
    tokens = max(max_tokens, int(options.get("micro_tokens") or MICRO_TOKENS))
    activations = tokens * (34 * folder.layers * folder.hidden_size + 6 * folder.vocab_size)
    return int(folder.parameter_count * weight_bytes + adapter * 16 + activations)


def _adapter_parameters(folder: ModelFolder, rank: int) -> int:
    """LoRA parameters on all linear layers: rank times the sum of both sides, about 14 hidden sizes per layer."""
    return 14 * rank * folder.hidden_size * folder.layers


def students_that_fit(hardware: Hardware) -> str:
    """The largest usual student size whose NF4 QLoRA (rank 16, 2,048 tokens) fits, and on CPU its bf16 LoRA."""
    per_weight = NF4_BYTES if hardware.gpus else 2.0
    fits = [
        name
        for name, count in STUDENT_SIZES
        if count * per_weight * 1.15 + 1.5e9 + count * 0.35 < hardware.training_memory_bytes
    ]
    how = "QLoRA (NF4)" if hardware.gpus else "LoRA in bf16 on the CPU"
    return f"up to {fits[-1]} by {how}, 2,048 tokens (estimated)" if fits else f"none of 0.5B and more by {how}"
