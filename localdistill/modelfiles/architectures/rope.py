"""Rotary positions as config.json states them, in the one reading that export and MLX share: libraries read the same
keys in different ways, and one that is overlooked gives a model that talks nonsense beyond a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError

KINDS = ("linear", "yarn", "llama3")
"""Of scaled rotary positions."""
_OWN_YARN = ("attention_factor", "mscale", "mscale_all_dim")


@dataclass(frozen=True)
class Rope:
    """Rotary position settings; `kind` is none, linear, yarn or llama3."""

    base: float
    kind: str = "none"
    factor: float = 1.0
    original_context: int = 0
    low_factor: float = 1.0
    high_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def divisors(self, head_dim: int) -> list[float] | None:
        """Divisors of the rotary frequencies (head_dim / 2 values) for Llama 3.1's scaling, else None."""
        if self.kind != "llama3":
            return None
        factors = []
        for pair in range(0, head_dim, 2):
            wavelength = 2 * math.pi * self.base ** (pair / head_dim)
            if wavelength < self.original_context / self.high_factor:
                factors.append(1.0)
            elif wavelength > self.original_context / self.low_factor:
                factors.append(self.factor)
            else:
                smooth = (self.original_context / wavelength - self.low_factor) / (self.high_factor - self.low_factor)
                factors.append(1 / ((1 - smooth) / self.factor + smooth))
        return factors

    def to_mlx(self) -> dict[str, Any]:
        """In the words of mlx-lm's `rope_scaling`."""
        if self.kind == "none":
            return {"type": "default"}
        return {"type": self.kind, "factor": self.factor, "original_max_position_embeddings": self.original_context,
                "low_freq_factor": self.low_factor, "high_freq_factor": self.high_factor, "beta_fast": self.beta_fast,
                "beta_slow": self.beta_slow}


def read_rope(config: Mapping[str, Any]) -> Rope:
    """The settings of a config.json, of transformers 5 (`rope_parameters`) and before. Raises ModelFileError for what
    is not known."""
    scaling: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    if kind == "default":
        return Rope(base)
    if kind not in KINDS:
        raise ModelFileError(f"config.json: rope type '{kind[:80]}' is not computed alike everywhere",
                             f"known: default, {', '.join(KINDS)}")
    if kind == "yarn" and any(scaling.get(key) is not None for key in _OWN_YARN):
        raise ModelFileError("config.json: yarn with its own attention factor is not computed alike everywhere",
                             "take that factor out of it, or use another model")
    original = scaling.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    if original is None or scaling.get("factor") is None:
        raise ModelFileError(f"config.json: rope type '{kind}' does not say its factor, or of which context",
                             "download the model again")
    return Rope(base, kind, float(scaling["factor"]), int(original), float(scaling.get("low_freq_factor") or 1.0),
                float(scaling.get("high_freq_factor") or 4.0), float(scaling.get("beta_fast") or 32.0),
                float(scaling.get("beta_slow") or 1.0))
