"""Scoring of given continuations in MLX (teacher forcing): what all prefixes of a batch share is read once, then the
rest of each prefix with its continuation, and only the places that are scored go through the head. Must not tokenize or
know requests."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from localdistill.core.events import Cancel
from localdistill.engines._continuations import ScoringBatch, ScoringTarget
from localdistill.modelfiles.beginnings import Ids
from localdistill.modelfiles.mlx_decoding import token_scores
from localdistill.modelfiles.mlx_models import head_logits
from localdistill.modelfiles.student_rows import joined

LOGITS_BYTES = 64 * 1024 * 1024
"""The head is asked for no more logits at once, in float32."""


class MlxScorer:
    """Scores batches with one model. What it finds for a target does not depend on the others of the batch, except
    through the rounding of the arithmetic."""

    def __init__(self, model: Any, tied: bool, cap: float | None = None) -> None:
        """`tied`: whether its head is the embedding. `cap`: where its logits are bent to stay below a size."""
        self._model, self._tied, self._cap = model, tied, cap
        self._beginning: Ids = ()
        self._kept: list[KVCache] = []

    def run(self, batch: ScoringBatch, cancel: Cancel) -> None:
        """Fill `scores` of every target of `batch`; after a cancel all are left without."""
        if cancel.is_set():
            return
        rows, common = batch.targets, batch.common
        pieces = [(*target.prefix[common:], *target.ids[:-1]) for target in rows]
        longest = max(map(len, pieces))
        # Right padding needs no mask: under causal attention nothing that is scored can see what follows it.
        ids = mx.array([[*piece, *[0] * (longest - len(piece))] for piece in pieces])
        hidden = self._model.model(ids, self._cache(rows[0].prefix[:common], len(rows)))
        mx.eval(hidden)
        for place, target in enumerate(rows):
            self._scored(hidden[place], len(target.prefix) - common - 1, target)

    def _scored(self, hidden: mx.array, first: int, target: ScoringTarget) -> None:
        """Score one target from the hidden states (T, H) of its row, of which `first` tells its first token."""
        vocabulary, parts = self._head_width(), []
        step = max(1, LOGITS_BYTES // (4 * vocabulary))
        for begin in range(0, len(target.ids), step):
            wanted = target.ids[begin:begin + step]
            parts.append(token_scores(self._logits(hidden[first + begin:first + begin + len(wanted)]), wanted,
                                      target.top))
        target.scores = joined(parts)

    def _cache(self, beginning: Ids, rows: int) -> list[KVCache] | None:
        """Keys and values of the common beginning, for every row; None where there is none."""
        if not beginning:
            return None
        if beginning != self._beginning:
            self._beginning, self._kept = (), []  # let go before the next one is read
            kept = [KVCache() for _ in self._model.layers]  # which also layers with a window read right
            self._model.model(mx.array([beginning]), kept)
            mx.eval([cache.state for cache in kept])
            self._beginning, self._kept = beginning, kept
        copies = []
        for cache in self._kept:
            keys, values = cache.keys_and_values()
            copy = KVCache()
            copy.keys, copy.values = mx.repeat(keys, rows, axis=0), mx.repeat(values, rows, axis=0)
            copy.offset = cache.offset
            copies.append(copy)
        return copies

    def _logits(self, hidden: mx.array) -> mx.array:
        return head_logits(self._model, hidden, self._tied, self._cap)

    def _head_width(self) -> int:
        owner = self._model.model.embed_tokens if self._tied else self._model.lm_head
        return int(owner.weight.shape[0])
