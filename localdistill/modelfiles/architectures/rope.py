"""Rotary positions as config.json states them, in the one reading that export and MLX share: libraries read the same
keys in different ways, and one that is overlooked gives a model that talks nonsense beyond a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError

KINDS = ("linear", "yarn", "llama3")
"""Of scaled rotary positions that every kind of student may have."""
LONGROPE = "longrope"
"""Factors for every frequency, others for texts beyond the original context: of kinds that ask for it."""
_OWN_YARN = ("attention_factor", "mscale", "mscale_all_dim")


@dataclass(frozen=True)
class Rope:
    """Rotary position settings; `kind` is none, linear, yarn, llama3 or longrope."""

    base: float
    kind: str = "none"
    factor: float = 1.0
    original_context: int = 0
    low_factor: float = 1.0
    high_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    share: float = 1.0
    """How much of a head is rotated."""
    short_factors: tuple[float, ...] = ()
    """Divisors of the frequencies within the original context, of longrope."""
    long_factors: tuple[float, ...] = ()
    """Beyond it."""

    def width(self, head: int) -> int:
        """How many values of a head of this width are rotated."""
        return int(head * self.share)

    @property
    def attention_factor(self) -> float:
        """What longrope multiplies rotated queries and keys by."""
        if self.kind != LONGROPE or self.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_context))

    def stored(self, head: int) -> dict[str, tuple[float, ...]]:
        """Tensors of GGUF that hold divisors of the rotary frequencies, by name."""
        if self.kind == LONGROPE:
            return {"rope_factors_long.weight": self.long_factors, "rope_factors_short.weight": self.short_factors}
        if self.kind == "llama3":
            return {"rope_freqs.weight": tuple(self._divisors(head))}
        return {}

    def _divisors(self, head_dim: int) -> list[float]:
        """Of Llama 3.1's scaling, one for each pair of values."""
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
        """In the words of mlx-lm's `rope_scaling`. Its longrope knows no short texts: it is given their factors for
        all, and no text beyond the original context comes to it."""
        if self.kind == "none":
            return {"type": "default"}
        if self.kind == LONGROPE:
            factors = list(self.short_factors)
            return {"type": LONGROPE, "short_factor": factors, "long_factor": factors}
        return {"type": self.kind, "factor": self.factor, "original_max_position_embeddings": self.original_context,
                "low_freq_factor": self.low_factor, "high_freq_factor": self.high_factor, "beta_fast": self.beta_fast,
                "beta_slow": self.beta_slow}


def read_rope(config: Mapping[str, Any], base: float = 10_000.0, kinds: tuple[str, ...] = KINDS) -> Rope:
    """The settings of a config.json, of transformers 5 (`rope_parameters`) and before; `base` where it states none.
    Raises ModelFileError for what is not one of `kinds`."""
    stated: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(stated.get("rope_theta") or config.get("rope_theta") or base)
    share = float(stated.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    kind = str(stated.get("rope_type") or stated.get("type") or "default")
    if share != 1.0 and LONGROPE not in kinds:
        raise ModelFileError("config.json: partial_rotary_factor is below 1, which is not computed alike everywhere",
                             "use another model")
    if kind == "default":
        return Rope(base, share=share)
    if kind in ("su", "yarn") and LONGROPE in kinds:
        kind = LONGROPE
    if kind not in kinds:
        raise ModelFileError(f"config.json: rope type '{kind[:80]}' is not computed alike everywhere",
                             f"known: default, {', '.join(kinds)}")
    if kind in ("yarn", LONGROPE) and any(stated.get(key) is not None for key in _OWN_YARN):
        raise ModelFileError(f"config.json: {kind} with its own attention factor is not computed alike everywhere",
                             "take that factor out of it, or use another model")
    original = (stated.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
                or config.get("max_position_embeddings"))
    if kind == LONGROPE:
        return _longrope(config, stated, base, share, original)
    if original is None or stated.get("factor") is None:
        raise ModelFileError(f"config.json: rope type '{kind}' does not say its factor, or of which context",
                             "download the model again")
    return Rope(base, kind, float(stated["factor"]), int(original), float(stated.get("low_freq_factor") or 1.0),
                float(stated.get("high_freq_factor") or 4.0), float(stated.get("beta_fast") or 32.0),
                float(stated.get("beta_slow") or 1.0))


def _longrope(config: Mapping[str, Any], stated: Mapping[str, Any], base: float, share: float,
              original: int | None) -> Rope:
    factors = [stated.get(key) for key in ("short_factor", "long_factor")]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    pairs = int(head * share) // 2
    for values in factors:
        if not isinstance(values, list) or len(values) != pairs or not all(
                isinstance(one, (int, float)) and not isinstance(one, bool) and 0 < one < math.inf for one in values):
            raise ModelFileError(f"config.json: longrope does not state {pairs} factors for short and for long texts",
                                 "download the model again")
    most = config.get("max_position_embeddings")
    if not original or not most:
        raise ModelFileError("config.json: longrope does not say its contexts", "download the model again")
    factor = float(stated.get("factor") or most / original)
    short, long = (tuple(map(float, values)) for values in factors if values)
    return Rope(base, LONGROPE, factor, int(original), share=share, short_factors=short, long_factors=long)
