"""Low-rank adapters and trained rows of tags as modules of MLX, on parameters of the same shapes and names as in torch.
Must not know about data or training loops."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx import nn

from localdistill.core.errors import UsageError
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.mlx_embedding import CorrectedEmbedding

PREFIX = "base_model.model."
ROWS = "token_adapter.trainable_tokens_delta"


@dataclass
class Draws:
    """Where dropout is: what is dropped is a pure function of this, so that it can be drawn again."""

    seed: int
    number: int = 0
    """Of the forward pass."""

    def key(self, layer: str) -> mx.array:
        """For one layer in this pass."""
        digest = hashlib.blake2b(f"{self.seed}/{self.number}/{layer}".encode(), digest_size=8).digest()
        return mx.random.key(int.from_bytes(digest, "big"))


class MlxLoraLinear(nn.Module):
    """A frozen linear layer, quantized or not, plus a trained low-rank update in float32."""

    def __init__(self, name: str, base: Any, down: mx.array, up: mx.array, scaling: float, dropout: float,
                 draws: Draws) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = down, up
        self._name, self._scaling, self._dropout, self._draws = name, scaling, dropout, draws

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., in) -> (..., out)."""
        seen = x
        if self.training and self._dropout:
            kept = mx.random.bernoulli(1 - self._dropout, x.shape, key=self._draws.key(self._name))
            seen = mx.where(kept, x * (1 / (1 - self._dropout)), mx.zeros_like(x))
        inner = seen @ self.down.astype(x.dtype).T
        return self.base(x) + inner @ (self.up * self._scaling).astype(x.dtype).T


class MlxTagEmbedding(nn.Module):
    """A frozen embedding whose rows of a few tokens are trained: `rows` (n, H) in float32."""

    def __init__(self, base: Any, tokens: Sequence[int], rows: mx.array) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self._tokens = mx.array(list(tokens))
        slots = mx.full((base.weight.shape[0],), -1, dtype=mx.int32)
        slots[self._tokens] = mx.arange(len(tokens), dtype=mx.int32)
        self._slots = slots

    @property
    def weight(self) -> mx.array:
        """Of the frozen rows."""
        return self.base.weight

    def __call__(self, ids: mx.array) -> mx.array:
        """ids (B, T) -> (B, T, H)."""
        slots, frozen = self._slots[ids], self.base(ids)
        trained = self.rows.astype(frozen.dtype)[mx.maximum(slots, 0)]
        if isinstance(self.base, CorrectedEmbedding):
            trained = self.base.corrected(trained)
        return mx.where((slots >= 0)[..., None], trained, frozen)

    def as_linear(self, hidden: mx.array) -> mx.array:
        """hidden (..., H) -> logits (..., V), of a head that is this embedding."""
        return with_rows(self.base.as_linear(hidden), hidden, self._tokens, self.rows)


class MlxTagHead(nn.Module):
    """A frozen output projection whose rows of a few tokens are trained."""

    def __init__(self, base: Any, tokens: Sequence[int], rows: mx.array) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self._tokens = mx.array(list(tokens))

    @property
    def weight(self) -> mx.array:
        """Of the frozen rows."""
        return self.base.weight

    def __call__(self, hidden: mx.array) -> mx.array:
        """hidden (..., H) -> logits (..., V)."""
        return with_rows(self.base(hidden), hidden, self._tokens, self.rows)


def with_rows(logits: mx.array, hidden: mx.array, tokens: mx.array, rows: mx.array) -> mx.array:
    """`logits` (..., V) with those of `tokens` as the trained rows give them."""
    own = (hidden @ rows.astype(hidden.dtype).T).astype(logits.dtype)
    logits[..., tokens] = own
    return logits


@dataclass
class Adapted:
    """A model with adapters over it."""

    model: Any
    layers: list[Any]
    """Its blocks."""
    draws: Draws
    targets: Mapping[str, MlxLoraLinear]
    """Full name of a linear layer -> what stands in its place."""
    tags: Sequence[int] = ()
    embedding: MlxTagEmbedding | None = None
    head: MlxTagHead | None = None
    """Only where the head is not the embedding."""

    def parameters(self) -> dict[str, mx.array]:
        """What is trained, under PEFT's names."""
        found: dict[str, mx.array] = {}
        for name, layer in self.targets.items():
            found[f"{PREFIX}{name}.lora_A.weight"], found[f"{PREFIX}{name}.lora_B.weight"] = layer.down, layer.up
        if self.embedding is not None:
            found[f"{PREFIX}model.embed_tokens.{ROWS}"] = self.embedding.rows
        if self.head is not None:
            found[f"{PREFIX}lm_head.{ROWS}"] = self.head.rows
        return found

    def update(self, parameters: Mapping[str, mx.array]) -> None:
        """Put these in their places."""
        for name, layer in self.targets.items():
            layer.down = parameters[f"{PREFIX}{name}.lora_A.weight"]
            layer.up = parameters[f"{PREFIX}{name}.lora_B.weight"]
        if self.embedding is not None:
            self.embedding.rows = parameters[f"{PREFIX}model.embed_tokens.{ROWS}"]
        if self.head is not None:
            self.head.rows = parameters[f"{PREFIX}lm_head.{ROWS}"]


def attach_lora(model: Any, targets: str, rank: int, scaling: float, dropout: float, seed: int) -> Adapted:
    """Put a MlxLoraLinear over every target in the blocks of `model`. Raises ValueError when nothing matches."""
    import numpy as np

    wanted = {name.strip() for name in targets.split(",")}
    draws, random = Draws(seed), np.random.Generator(np.random.Philox(seed))
    found: dict[str, MlxLoraLinear] = {}
    for name, module in sorted(model.named_modules(), key=lambda pair: _by_number(pair[0])):
        end = name.rpartition(".")[2]
        is_linear = isinstance(module, nn.Linear | nn.QuantizedLinear) and name.startswith("model.layers.")
        if not is_linear or not (targets == "all-linear" or end in wanted):
            continue
        out_features, in_features = module.weight.shape
        if isinstance(module, nn.QuantizedLinear):
            in_features = in_features * 32 // module.bits
        bound = 1.0 / math.sqrt(in_features)
        down = mx.array(random.uniform(-bound, bound, (rank, in_features)).astype(np.float32))
        found[name] = MlxLoraLinear(name, module, down, mx.zeros((out_features, rank)), scaling, dropout, draws)
    if not found:
        raise ValueError(f"no linear layer matches '{targets}'")
    for name, layer in found.items():
        parent, _, leaf = name.rpartition(".")
        setattr(_submodule(model, parent), leaf, layer)
    return Adapted(model, list(model.model.layers), draws, found)


def _by_number(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in name.split("."))


def _submodule(model: Any, name: str) -> Any:
    place = model
    for part in name.split("."):
        place = place[int(part)] if part.isdecimal() else getattr(place, part)
    return place


def attach_tags(adapted: Adapted, tokens: Sequence[int], tied: bool) -> None:
    """Train the rows of `tokens` in the embedding and the output projection too."""
    adapted.tags = list(tokens)
    if not tokens:
        return
    model, index = adapted.model, mx.array(list(tokens))
    adapted.embedding = MlxTagEmbedding(model.model.embed_tokens, tokens,
                                     model.model.embed_tokens.weight[index].astype(mx.float32))
    model.model.embed_tokens = adapted.embedding
    if not tied:
        adapted.head = MlxTagHead(model.lm_head, tokens, model.lm_head.weight[index].astype(mx.float32))
        model.lm_head = adapted.head


def start_from(adapted: Adapted, start: AdapterFolder, scaling: float) -> None:
    """Give what is trained the weights of another adapter; rows of tags that it did not train stay the base's. Raises
    UsageError when it is not of the same shape."""
    hint = "train both arms with the same rank, alpha and targets"
    if set(adapted.targets) != start.layers:
        raise UsageError(f"the adapter to start from changes {len(start.layers)} layers, this training "
                         f"{len(adapted.targets)}, or others", hint)
    if not math.isclose(start.scaling, scaling, rel_tol=1e-6):
        raise UsageError(f"the adapter to start from counts {start.scaling:g} times (alpha / rank), this training's "
                         f"{scaling:g} times", hint)
    for name, layer in adapted.targets.items():
        down, up = start.factors(name)
        if tuple(layer.down.shape) != tuple(down.shape):
            raise UsageError(f"the adapter to start from has rank {min(down.shape)}, this training "
                             f"{min(layer.down.shape)}", hint)
        layer.down, layer.up = mx.array(down.numpy()), mx.array(up.numpy())
    places = [list(adapted.tags).index(token) for token in start.token_ids]
    for name, own in (("model.embed_tokens", adapted.embedding), ("lm_head", adapted.head)):
        rows = start.rows(name)
        if rows is not None and own is not None:
            changed = mx.array(own.rows)
            changed[mx.array(places)] = mx.array(rows.numpy())
            own.rows = changed
