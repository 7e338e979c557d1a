"""Options of LoRA training in MLX. Must not import mlx: recipes, forms and plans read them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from localdistill.trainers._options import AdapterOptions, LoopOptions


class MlxOptions(LoopOptions, AdapterOptions):
    """Options of LoRA training in MLX."""

    micro_tokens: int = Field(0, ge=0)
    """Tokens that go through the student at once; 0 picks 4096. It is halved when memory runs out, which does not
    change the result of a step."""
    quantization: Literal["none", "4bit", "8bit"] = "none"
    """How the linear layers of the frozen student are held: `4bit` (QLoRA) needs about a quarter of the memory of 16
    bits. The adapter is fitted to those weights: it is merged into them, and belongs to no others."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the frozen student. `auto` is bfloat16 on chips that compute it (M3 and later), else float32. The
    adapter itself is always float32."""
    memory_share: float = Field(0.9, gt=0, le=1)
    """Share of the memory that macOS lets its GPU use which a training may take at most."""
