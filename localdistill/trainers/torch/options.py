"""Options of LoRA training in torch. Must not import torch: recipes, forms and plans read them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from localdistill.core.options import DeviceName
from localdistill.trainers._options import AdapterOptions, LoopOptions


class TorchOptions(LoopOptions, AdapterOptions):
    """Options of LoRA training."""

    micro_tokens: int = Field(0, ge=0)
    """Tokens that go through the student at once; 0 picks 1024, for small students and large GPUs up to 4096. It is
    halved when memory runs out, which does not change the result of a step."""
    quantization: Literal["auto", "none", "nf4"] = "auto"
    """How frozen weights are held: `nf4` needs a quarter of the memory. `auto` is nf4 on CUDA, none on a CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the frozen student. `auto` is bfloat16 where the hardware computes it, else float16 on a GPU
    and float32 on a CPU. The adapter itself is always float32."""
    device: DeviceName = "auto"
    """`auto` takes the NVIDIA or AMD GPU with the most memory, else the CPU; or `cpu`, `cuda`, `cuda:1`, `mps`."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 leaves torch's choice."""
