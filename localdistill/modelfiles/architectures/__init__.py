"""What is known about every kind of student that loads: one file per kind, and nothing about kinds anywhere else.
Reading the list loads no library."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill.modelfiles.architectures import llama, mistral, qwen2, qwen3
from localdistill.modelfiles.architectures.base import LINEAR_LAYERS, Architecture

__all__ = ["ARCHITECTURES", "LINEAR_LAYERS", "Architecture"]

ARCHITECTURES: Mapping[str, Architecture] = {
    kind.name: kind for kind in (llama.ARCHITECTURE, qwen2.ARCHITECTURE, qwen3.ARCHITECTURE, mistral.ARCHITECTURE)}
"""By the name that config.json gives in `architectures`."""
