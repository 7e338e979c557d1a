"""The passes of one batch in MLX: packed rows through the body layer by layer, the chunked head over trained positions,
and back layer by layer, each computed anew from its input. So memory holds the inputs of the layers and one layer's
work, for every objective alike. Must not own an optimizer or a training.

Source of computing activations anew: https://arxiv.org/abs/1604.06174."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from localdistill.core.losses import Pseudo
from localdistill.modelfiles.folder import ModelFolder
from localdistill.trainers._rows import Dataset
from localdistill.trainers.mlx.attention import per_document, whole_mask
from localdistill.trainers.mlx.head import BelowHead, ChunkedHead
from localdistill.trainers.mlx.lora import PREFIX, ROWS, Adapted
from localdistill.trainers.stepping import BatchStepper, PositionValues, Pulling

if TYPE_CHECKING:
    from localdistill.core.losses import Floats


@dataclass(frozen=True)
class Packed:
    """What a forward pass leaves."""

    ids: mx.array
    """(1, T): the rows, one after the other."""
    ends: Sequence[int]
    """Where each ends."""
    inputs: Sequence[mx.array]
    """(1, T, H) of every layer, and of the last norm; empty where nothing is learned."""
    places: mx.array
    """(N,) before the trained tokens."""
    picked: mx.array
    """(N, H) hidden states there."""
    listed: mx.array
    """(N, K) the tokens themselves, and what else is listed there."""
    draw: int
    """Of the dropout."""


class MlxStepper(BatchStepper[Packed, BelowHead]):
    """Accumulates the gradient of batches in `gradients`."""

    def __init__(self, adapted: Adapted, module: Any, rows: Dataset, micro_tokens: int, folder: ModelFolder) -> None:
        super().__init__(rows, micro_tokens)
        self.adapted, self._module = adapted, module
        kind, tied = folder.kind, folder.tied_embeddings
        self.head = ChunkedHead(adapted, tied, kind.logit_cap(folder.config))
        self._scale = kind.mlx_embedding_scale(folder.config)
        self._windows, self._needs_mask = list(kind.windows(folder.config)), kind.mlx.needs_mask
        self._head_rows = f"{PREFIX}{'model.embed_tokens' if tied else 'lm_head'}.{ROWS}"
        self.gradients: dict[str, mx.array] = {}

    def forward(self, piece: Sequence[int], learns: bool) -> Packed:
        """Hidden states before the trained tokens of the rows."""
        self.adapted.draws.number += 1
        packed = self.packed(piece)
        ids = mx.array(packed.ids)[None]
        body, inputs = self.adapted.model.model, []
        masks = self._masks(packed.ends)
        with self._attending(packed.ends):
            hidden = body.embed_tokens(ids)
            if self._scale != 1.0:
                hidden = hidden * mx.array(self._scale, hidden.dtype)
            for layer, mask in zip(self.adapted.layers, masks, strict=True):
                inputs += [hidden] if learns else []
                hidden = layer(hidden, mask, None)
                mx.eval(hidden)
        inputs += [hidden] if learns else []
        before = mx.array((packed.places - 1).astype(np.int32))
        picked = body.norm(hidden[0, before])
        mx.eval(picked)
        listed = mx.array(self.rows.listed_tokens(piece))
        return Packed(ids, packed.ends, inputs, before, picked, listed, self.adapted.draws.number)

    def _masks(self, ends: Sequence[int]) -> list[Any]:
        """What every layer is given as its mask."""
        if not self._needs_mask:
            return self._windows
        made = {window: whole_mask(ends, window) for window in set(self._windows)}
        return [made[window] for window in self._windows]

    def _attending(self, ends: Sequence[int]) -> AbstractContextManager[None]:
        return nullcontext() if self._needs_mask else per_document(self._module, ends)

    def values(self, held: Packed, pseudo: frozenset[Pseudo]) -> PositionValues:
        """The head without a gradient."""
        return self.head.values(held.picked, held.listed, pseudo)

    def pull(self, held: Packed, pseudo: frozenset[Pseudo], pulling: Pulling) -> tuple[PositionValues, BelowHead]:
        """The head with its gradient."""
        return self.head.pull(held.picked, held.listed, pseudo, pulling)

    def weigh(self, gradient: BelowHead, by_position: Floats) -> BelowHead:
        """A new one."""
        factor = mx.array(by_position.astype(np.float32))[:, None]
        return BelowHead(gradient.hidden * factor.astype(gradient.hidden.dtype),
                         None if gradient.tags is None else gradient.tags * factor)

    def backward(self, held: Packed, gradient: BelowHead) -> None:
        """Of the head's own rows, then layer by layer down to the embedding."""
        if (rows := self.head.by_rows(held.picked, gradient)) is not None:
            self._add(self._head_rows, rows)
        inputs = list(held.inputs)
        norm = self.adapted.model.model.norm
        _, (above,) = mx.vjp(lambda hidden: [norm(hidden[0, held.places])], [inputs.pop()], [gradient.hidden])
        draws = self.adapted.draws
        later, draws.number = draws.number, held.draw  # the same dropout again
        masks = self._masks(held.ends)
        with self._attending(held.ends):
            for number in reversed(range(len(self.adapted.layers))):
                above = self._layer_back(number, masks[number], inputs.pop(), above,
                                         number > 0 or self.adapted.embedding is not None)
        draws.number = later
        if self.adapted.embedding is not None:
            self._embedding_back(held.ids, above if self._scale == 1.0 else above * mx.array(self._scale, above.dtype))

    def _layer_back(self, number: int, mask: Any, given: mx.array, above: mx.array, goes_on: bool) -> mx.array:
        """Add the gradient of one layer's adapters, and give what it comes to below the layer."""
        layer = self.adapted.layers[number]
        names, values = zip(*tree_flatten(layer.trainable_parameters()), strict=True) if tree_flatten(
            layer.trainable_parameters()) else ((), ())

        def run(hidden: mx.array, *parameters: mx.array) -> list[mx.array]:
            if names:
                layer.update(tree_unflatten(list(zip(names, parameters, strict=True))))
            return [layer(hidden, mask, None)]

        try:
            if goes_on:
                _, (below, *found) = mx.vjp(run, [given, *values], [above])
            else:
                _, found = mx.vjp(lambda *parameters: run(given, *parameters), list(values), [above])
                below = above
        finally:
            if names:
                layer.update(tree_unflatten(list(zip(names, values, strict=True))))
        mx.eval(below, *found)
        for name, gradient in zip(names, found, strict=True):
            place, _, leaf = name.rpartition(".")
            side = {"down": "A", "up": "B"}[leaf]
            self._add(f"{PREFIX}model.layers.{number}.{place}.lora_{side}.weight", gradient)
        return below

    def _embedding_back(self, ids: mx.array, above: mx.array) -> None:
        embedding = self.adapted.embedding
        assert embedding is not None
        kept = embedding.rows

        def run(rows: mx.array) -> list[mx.array]:
            embedding.rows = rows
            return [embedding(ids)]

        try:
            _, (gradient,) = mx.vjp(run, [kept], [above])
        finally:
            embedding.rows = kept
        self._add(f"{PREFIX}model.embed_tokens.{ROWS}", gradient)

    def _add(self, name: str, gradient: mx.array) -> None:
        before = self.gradients.get(name)
        total = gradient.astype(mx.float32) if before is None else before + gradient.astype(mx.float32)
        mx.eval(total)
        self.gradients[name] = total

    def random_state(self) -> int:
        """How many passes were drawn for."""
        return self.adapted.draws.number

    def set_random_state(self, state: object) -> None:
        """As `random_state` gave it."""
        assert isinstance(state, int)
        self.adapted.draws.number = state


def clipped(gradients: Mapping[str, mx.array], most: float) -> tuple[dict[str, mx.array], float]:
    """`gradients` shortened to the length `most` (0: never), and their length before."""
    total = mx.sqrt(sum((mx.sum(mx.square(gradient)) for gradient in gradients.values()), mx.array(0.0)))
    norm = float(total.item())
    if not most or not np.isfinite(norm):
        return dict(gradients), norm
    factor = min(1.0, most / (norm + 1e-6))
    return {name: gradient * factor for name, gradient in gradients.items()}, norm
