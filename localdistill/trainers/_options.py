"""Options that trainers share, whatever computes: of the adapter that is trained, and of the loop that trains it. Must
not know a library for training."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from localdistill.core.errors import UsageError, nearest
from localdistill.core.options import Options
from localdistill.modelfiles.architectures import LINEAR_LAYERS
from localdistill.trainers import TUNED

AdapterKind = Literal["lora", "rslora", "dora", "gaussian", "orthogonal", "pissa", "olora"]
TAKEN_FROM_BASE = ("pissa", "olora")
"""Kinds that begin with a part of the layer, which is taken away from its weights."""


class AdapterOptions(Options):
    """Options of a low-rank adapter."""

    adapter: AdapterKind = "lora"
    """How the update is computed and first set. `lora`; `rslora`: scaled by alpha / sqrt(rank), for high ranks (arXiv
    2312.03732); `dora`: the length of every row of a layer is learned too, slower (2402.09353). The others are LoRA
    that begins elsewhere: `gaussian`; `orthogonal`, with both factors; `pissa` and `olora`, from the largest
    directions of the layer itself (2404.02948, 2406.01775): what is written has twice the rank. MLX: the first two."""
    rank: int = Field(16, ge=1, le=1024)
    """Rank of the update of each layer. Larger learns more and costs more memory."""
    alpha: float = Field(32.0, gt=0)
    """Strength of the update: it is scaled by alpha / rank (`rslora`: by the root of the rank)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of a layer's input that is dropped on the way into the update; 0 is off and fastest."""
    targets: str = "all-linear"
    """Layers to adapt: `all-linear`, or some of `q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj`, of a Phi
    `qkv_proj,o_proj,gate_up_proj,down_proj`."""

    @property
    def scaling(self) -> float:
        """What the update is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.adapter == "rslora" else self.rank)

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if self.adapter == "orthogonal" and self.rank % 2:
            raise ValueError("an orthogonal adapter has an even rank")
        return self

    @field_validator("targets")
    @classmethod
    def _are_layers(cls, value: str) -> str:
        for name in value.split(","):
            if value != "all-linear" and name.strip() not in LINEAR_LAYERS:
                close = nearest(name.strip(), ("all-linear", *LINEAR_LAYERS))
                raise ValueError(f"a student has no layers named '{name.strip()}'{close}")
        return value


class LoopOptions(Options):
    """Options of the training loop: batches, schedule, optimizer and checkpoints."""

    learning_rate: Annotated[float, Field(gt=0)] | Literal["tuned"] = 2e-4
    """Peak step size. Students below 100 million parameters want about 1e-3 to 3e-3. `tuned` takes what [train.tune]
    finds."""
    epochs: float = Field(2.0, gt=0)
    """How often every row is seen; a fraction is allowed."""
    max_steps: int = Field(0, ge=0)
    """Optimizer steps at most; 0 leaves it to `epochs`. The learning rate follows the shorter of both."""
    batch_rows: int = Field(16, ge=1)
    """Rows per optimizer step."""
    batch_tokens: int = Field(0, ge=0)
    """Tokens per optimizer step instead of `batch_rows`; 0 is off."""
    warmup_share: float = Field(0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay of the adapter's weights; trained tag rows are never decayed."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Longest gradient; longer ones are shortened to it. 0 is off."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory; switched on by itself when a single row does not fit."""
    checkpoint_every_s: float = Field(300.0, ge=0)
    """Seconds between checkpoints; 0 is never by time. A cancelled training writes one in any case."""
    checkpoint_every_steps: int = Field(0, ge=0)
    """Steps between checkpoints; 0 is never by steps."""

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _is_a_rate(cls, value: Any) -> Any:
        """One sentence for what is neither."""
        if value == TUNED:
            return value
        try:
            rate = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            rate = math.nan
        if not 0 < rate < math.inf:
            raise ValueError(f'is a number above 0, or "{TUNED}" where there is a [train.tune]')
        return rate

    @property
    def peak_rate(self) -> float:
        """The learning rate. UsageError where it is to be found first."""
        if self.learning_rate == TUNED:
            raise UsageError(f'learning_rate = "{TUNED}" is no rate yet', "state one, or let the stage tune find it")
        return float(self.learning_rate)
