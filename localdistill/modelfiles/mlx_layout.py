"""Adapters in the layout of mlx-lm, for its own programs: `adapter_config.json` and `adapters.safetensors`. Trained
rows of tags, for which it has no place, become low-rank updates of the embedding and the head that change those rows
alone. Must not import mlx when it is imported, and must not read adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.modelfiles.adapter import FITTED_TO

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


@dataclass(frozen=True)
class TagRows:
    """Rows of one matrix that were trained."""

    base: Any
    """(n, H) as they were."""
    trained: Any
    """(n, H)"""
    vocabulary: int


@dataclass(frozen=True)
class MlxLayout:
    """One adapter; arrays of MLX in float32."""

    layers: int
    """Blocks of the student."""
    rank: int
    scale: float
    """alpha / rank."""
    dropout: float
    targets: Mapping[str, tuple[Any, Any]]
    """Full name of a linear layer (`model.layers.0.self_attn.q_proj`) -> down (r, in), up (out, r)."""
    tags: Sequence[int] = ()
    embedding: TagRows | None = None
    head: TagRows | None = None
    """Only where the head is not the embedding."""
    fitted_to: str = ""
    """How the base was held, where the adapter belongs to no other weights."""

    @property
    def is_possible(self) -> bool:
        """An update of this rank can hold the trained rows."""
        return len(self.tags) <= self.rank

    def write(self, folder: Path) -> None:
        """Write both files into `folder`."""
        import mlx.core as mx

        arrays: dict[str, Any] = {}
        for name, (down, up) in self.targets.items():
            arrays[f"{name}.lora_a"], arrays[f"{name}.lora_b"] = down.T, up.T
        keys = {name.split(".", 3)[3] for name in self.targets}
        if self.embedding is not None:
            picks, rows = self._of_rows(self.embedding)
            arrays["model.embed_tokens.lora_a"], arrays["model.embed_tokens.lora_b"] = picks, rows
            keys.add("model.embed_tokens")
        if self.head is not None:
            picks, rows = self._of_rows(self.head)
            arrays["lm_head.lora_a"], arrays["lm_head.lora_b"] = rows.T, picks.T
            keys.add("lm_head")
        config: dict[str, Any] = {"fine_tune_type": "lora", "num_layers": self.layers, "lora_parameters": {
            "rank": self.rank, "scale": self.scale, "dropout": self.dropout, "keys": sorted(keys)}}
        if self.fitted_to:
            config[FITTED_TO] = self.fitted_to
        folder.mkdir(parents=True, exist_ok=True)
        mx.save_safetensors(str(folder / WEIGHTS), {name: mx.contiguous(value) for name, value in arrays.items()})
        (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True))

    def _of_rows(self, rows: TagRows) -> tuple[Any, Any]:
        """(V, r) that picks the rows, and (r, H) what is added to them, before `scale`."""
        import mlx.core as mx

        picks = mx.zeros((rows.vocabulary, self.rank))
        picks[mx.array(list(self.tags)), mx.arange(len(self.tags))] = mx.array(1.0)
        added = mx.zeros((self.rank, rows.trained.shape[1]))
        added[:len(self.tags)] = (rows.trained - rows.base.astype(mx.float32)) / self.scale
        return picks, added
