"""An adapter in PEFT's layout over a model in MLX: beside quantized weights, to which it was fitted, or merged into
those that are held as they are stored. Imports mlx: import it only where a model is loaded."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import mlx.core as mx
from mlx import nn

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.adapted import AdaptedBase
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_models import MlxDtype, stored_weights


class UpdatedLinear(nn.Module):
    """A linear layer with a low-rank update beside it, in the arithmetic of training."""

    def __init__(self, base: Any, down: mx.array, up: mx.array) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., in) -> (..., out)."""
        return self.base(x) + (x @ self.down.astype(x.dtype).T) @ self.up.astype(x.dtype).T


class AdaptedMlxModel(AdaptedBase):
    """One in MLX."""

    def __init__(self, model: Any, folder: ModelFolder, dtype: MlxDtype, merges: bool) -> None:
        """dtype: of weights into which adapters go. See `AdaptedBase`."""
        super().__init__(model, folder, merges)
        self._dtype = getattr(mx, dtype)

    def _merge(self, adapter: AdapterFolder | None, names: frozenset[str]) -> None:
        stored = stored_weights(self._folder) if names else {}
        for name in sorted(names):
            layer = name.removesuffix(".weight")
            if layer == "lm_head" and self._folder.tied_embeddings:
                continue
            parent, leaf = _place(self.model, layer)
            weight = stored.pop(name).astype(mx.float32)
            if adapter is not None and layer in adapter.layers:
                down, up = (mx.array(factor.numpy()) for factor in adapter.factors(layer))
                weight = weight + adapter.scaling * (up @ down)
                if (lengths := adapter.lengths(layer)) is not None:
                    weight *= (mx.array(lengths.numpy()) / mx.linalg.norm(weight, axis=1))[:, None]
            elif adapter is not None and (rows := adapter.rows(layer)) is not None:
                weight[mx.array(list(adapter.token_ids))] = mx.array(rows.numpy())
            owner = getattr(parent, leaf)
            owner.weight = weight.astype(self._dtype)
            mx.eval(owner.weight)

    def _attach(self, adapter: AdapterFolder) -> ExitStack:
        return attach_adapter(self.model, adapter)


def attach_adapter(model: Any, adapter: AdapterFolder) -> ExitStack:
    """Put the adapter beside the weights of `model`; trained rows are set in its embeddings, which are never
    quantized. Closing what comes back takes all of it off again, bit for bit."""
    if adapter.is_dora:
        raise ModelFileError(f"{adapter.path}: a DoRA adapter is no sum, and cannot stand beside weights in MLX",
                             "answer it with the engine transformers, or hold the weights as they are stored")
    with ExitStack() as taken_off:
        for layer in sorted(adapter.layers):
            down, up = (mx.array(factor.numpy()) for factor in adapter.factors(layer))
            parent, leaf = _place(model, layer)
            bare = getattr(parent, leaf)
            taken_off.callback(setattr, parent, leaf, bare)
            setattr(parent, leaf, UpdatedLinear(bare, down, up * adapter.scaling))
        places = mx.array(list(adapter.token_ids))
        for layer, owner in (("model.embed_tokens", model.model.embed_tokens), ("lm_head", model.get("lm_head"))):
            rows = adapter.rows(layer)
            if rows is not None and owner is not None:
                before = owner.weight[places]
                mx.eval(before)  # else it would hold all of the weight that it is taken from
                taken_off.callback(_set_rows, owner, places, before)
                _set_rows(owner, places, mx.array(rows.numpy()))
        return taken_off.pop_all()


def _set_rows(owner: Any, places: mx.array, rows: mx.array) -> None:
    """Write rows (n, H) into the weight of an embedding or a head."""
    weight = mx.array(owner.weight)
    weight[places] = rows.astype(weight.dtype)
    owner.weight = weight
    mx.eval(weight)


def _place(model: Any, layer: str) -> tuple[Any, str]:
    *parts, leaf = layer.split(".")
    place = model
    for part in parts:
        place = place[int(part)] if part.isdecimal() else getattr(place, part)
    return place, leaf
