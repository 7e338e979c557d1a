"""What is known about every kind of student that loads: one file per kind, and nothing about kinds anywhere else.
Reading the list loads no library."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill.modelfiles.architectures import (
    gemma2,
    gemma3,
    llama,
    ministral,
    mistral,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from localdistill.modelfiles.architectures.base import Architecture

__all__ = ["ARCHITECTURES", "LINEAR_LAYERS", "Architecture"]

ARCHITECTURES: Mapping[str, Architecture] = {kind.name: kind for kind in (
    llama.ARCHITECTURE, qwen2.ARCHITECTURE, qwen3.ARCHITECTURE, mistral.ARCHITECTURE, ministral.ARCHITECTURE,
    smollm3.ARCHITECTURE, phi3.ARCHITECTURE, gemma2.ARCHITECTURE, gemma3.ARCHITECTURE)}
"""By the name that config.json gives in `architectures`."""
LINEAR_LAYERS = tuple(dict.fromkeys(layer for kind in ARCHITECTURES.values() for layer in kind.linear_layers))
"""The linear layers that a student of any kind may have."""
