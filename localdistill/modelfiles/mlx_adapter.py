"""An adapter in PEFT's layout over a model in MLX: beside quantized weights, to which it was fitted, or merged into
those that are held as they are stored. Imports mlx: import it only where a model is loaded."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from localdistill.modelfiles.adapter import AdapterFolder


class UpdatedLinear(nn.Module):
    """A linear layer with a low-rank update beside it, in the arithmetic of training."""

    def __init__(self, base: Any, down: mx.array, up: mx.array) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., in) -> (..., out)."""
        return self.base(x) + (x @ self.down.astype(x.dtype).T) @ self.up.astype(x.dtype).T


def attach_adapter(model: Any, adapter: AdapterFolder) -> None:
    """Put the adapter beside the weights of `model`; trained rows are set in its embeddings, which are never
    quantized."""
    for layer in sorted(adapter.layers):
        down, up = (mx.array(factor.numpy()) for factor in adapter.factors(layer))
        parent, leaf = _place(model, layer)
        setattr(parent, leaf, UpdatedLinear(getattr(parent, leaf), down, up * adapter.scaling))
    _set_rows(model, adapter)


def merge_adapter(model: Any, adapter: AdapterFolder) -> None:
    """Add the adapter to the weights of `model`, which are not quantized, in float32."""
    for layer in sorted(adapter.layers):
        down, up = (mx.array(factor.numpy()) for factor in adapter.factors(layer))
        parent, leaf = _place(model, layer)
        linear = getattr(parent, leaf)
        linear.weight = (linear.weight.astype(mx.float32) + adapter.scaling * (up @ down)).astype(linear.weight.dtype)
        mx.eval(linear.weight)
    _set_rows(model, adapter)


def in_dtype(model: Any, dtype: str) -> Any:
    """`model` with its weights in `dtype`."""
    model.set_dtype(getattr(mx, dtype))
    mx.eval(model.parameters(), model(mx.array([[0]])))
    return model


def _set_rows(model: Any, adapter: AdapterFolder) -> None:
    places = mx.array(list(adapter.token_ids))
    owners = {"model.embed_tokens": model.model.embed_tokens, "lm_head": model.get("lm_head")}
    for layer, owner in owners.items():
        rows = adapter.rows(layer)
        if rows is not None and owner is not None:
            weight = mx.array(owner.weight)
            weight[places] = mx.array(rows.numpy()).astype(weight.dtype)
            owner.weight = weight
            mx.eval(weight)


def _place(model: Any, layer: str) -> tuple[Any, str]:
    *parts, leaf = layer.split(".")
    place = model
    for part in parts:
        place = place[int(part)] if part.isdecimal() else getattr(place, part)
    return place, leaf
