"""The output projection in MLX: log-probabilities of listed tokens and the gradient of a weighted sum of them, a chunk
of logits at a time, each computed before the next is begun, so that never more than one is held. Must not know an
objective, nor the layers below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from localdistill.core.borders import BORDERS
from localdistill.core.losses import Pseudo
from localdistill.trainers.mlx.lora import Adapted
from localdistill.trainers.stepping import PositionValues, Pulling

LEAST_TAIL = -30.0
"""Log-probability below which all tokens that are not listed count as gone: nothing pulls on them any more."""


@dataclass
class BelowHead:
    """The gradient below the head."""

    hidden: mx.array
    """(N, H)"""
    tags: mx.array | None = None
    """(N, tags) float32 by the logits of the trained rows, where there are any."""


class ChunkedHead:
    """The output projection of one model."""

    def __init__(self, adapted: Adapted, tied: bool, cap: float | None = None) -> None:
        self._cap = cap
        self._owner: Any = adapted.model.model.embed_tokens if tied else adapted.model.lm_head
        self._rows = adapted.embedding if tied else adapted.head
        self._tags = mx.array(list(adapted.tags)) if adapted.tags else None
        self.chunk_rows = max(BORDERS.logit_rows, BORDERS.mlx_logit_bytes // (4 * self._owner.weight.shape[0]))

    def values(self, hidden: mx.array, listed: mx.array, pseudo: frozenset[Pseudo]) -> PositionValues:
        """hidden (N, H), listed (N, K) token ids -> their values."""
        return self._pass(hidden, listed, pseudo, None)[0]

    def pull(self, hidden: mx.array, listed: mx.array, pseudo: frozenset[Pseudo],
             pulling: Pulling) -> tuple[PositionValues, BelowHead]:
        """The values, and the gradient of the sum of values times pulls."""
        values, gradient = self._pass(hidden, listed, pseudo, pulling)
        assert gradient is not None
        return values, gradient

    def by_rows(self, hidden: mx.array, gradient: BelowHead) -> mx.array | None:
        """What the gradient comes to for the head's own trained rows (tags, H), where there are any."""
        if gradient.tags is None:
            return None
        return (gradient.tags.astype(hidden.dtype).T @ hidden).astype(mx.float32)

    def _logits(self, hidden: mx.array) -> mx.array:
        logits = (hidden @ self._owner.weight.T).astype(mx.float32)
        if self._rows is not None and self._tags is not None:
            logits[:, self._tags] = (hidden @ self._rows.rows.astype(hidden.dtype).T).astype(mx.float32)
        return logits

    def _pass(self, hidden: mx.array, listed: mx.array, pseudo: frozenset[Pseudo],
              pulling: Pulling | None) -> tuple[PositionValues, BelowHead | None]:
        found: list[PositionValues] = []
        below: list[mx.array] = []
        tags: list[mx.array] = []
        for start in range(0, hidden.shape[0], self.chunk_rows):
            part = slice(start, min(hidden.shape[0], start + self.chunk_rows))
            here = listed[part]
            logits, slope = self._logits(hidden[part]), None
            if self._cap is not None:
                bent = mx.tanh(logits / self._cap)
                logits, slope = bent * self._cap, 1 - mx.square(bent)
                del bent
            logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            del logits
            values = _values(logprobs, here, pseudo, pulling is not None)
            found.append(values)
            if pulling is not None:
                by_logits = _by_logits(logprobs, here, values, pulling(part, lambda: found[-1]))
                by_logits = by_logits if slope is None else by_logits * slope
                self._below(by_logits, below, tags)
                del by_logits
            del logprobs
        values = _joined(found)
        if pulling is None:
            return values, None
        return values, BelowHead(mx.concatenate(below), mx.concatenate(tags) if tags else None)

    def _below(self, by_logits: mx.array, below: list[mx.array], tags: list[mx.array]) -> None:
        """Carry (n, V) by the logits on to the hidden states."""
        weight = self._owner.weight
        if self._rows is None or self._tags is None:
            below.append(by_logits.astype(weight.dtype) @ weight)
            mx.eval(below[-1])
            return
        own = by_logits[:, self._tags]
        by_logits[:, self._tags] = mx.zeros_like(own)
        tags.append(own)
        below.append(by_logits.astype(weight.dtype) @ weight
                     + own.astype(weight.dtype) @ self._rows.rows.astype(weight.dtype))
        mx.eval(below[-1], tags[-1])


def _values(logprobs: mx.array, listed: mx.array, pseudo: frozenset[Pseudo], ranks: bool) -> PositionValues:
    """The values at n positions, from (n, V); whether the row's own token is ranked first where somebody `ranks`."""
    own = mx.take_along_axis(logprobs, listed, axis=-1)
    mean = mx.mean(logprobs, axis=-1) if "mean" in pseudo else None
    tail = None
    if "tail" in pseudo:
        rest = mx.put_along_axis(logprobs, listed, mx.array(-float("inf")), axis=-1)
        tail = mx.maximum(mx.logsumexp(rest, axis=-1), LEAST_TAIL)
    first = own[:, 0] >= mx.max(logprobs, axis=-1) if ranks else None
    mx.eval([value for value in (logprobs, own, tail, mean, first) if value is not None])
    return PositionValues(_array(own), *(None if value is None else _array(value) for value in (tail, mean, first)))


def _by_logits(logprobs: mx.array, listed: mx.array, values: PositionValues, pull: PositionValues) -> mx.array:
    """Gradient by the logits (n, V) of the pulled sum; the formulas are those of the head in torch."""
    by_listed, total = pull.logprobs, pull.logprobs.sum(-1)
    spread = None
    if pull.mean is not None:
        total = total + pull.mean
        spread = mx.array(pull.mean / logprobs.shape[-1])
    if pull.tail is not None and values.tail is not None:
        by_tail = np.where(values.tail > LEAST_TAIL, pull.tail, 0.0)
        outside = by_tail / np.exp(values.tail)
        by_listed = by_listed - outside[:, None] * np.exp(values.logprobs)
        total = total + by_tail - outside
    by_logits = mx.exp(logprobs) * mx.array(-total.astype(np.float32))[:, None]
    own = mx.take_along_axis(by_logits, listed, axis=-1) + mx.array(by_listed.astype(np.float32))
    by_logits = mx.put_along_axis(by_logits, listed, own, axis=-1)
    return by_logits if spread is None else by_logits + spread[:, None]


def _array(value: mx.array) -> Any:
    return np.array(value, copy=True)


def _joined(found: list[PositionValues]) -> PositionValues:
    return PositionValues(
        np.concatenate([one.logprobs for one in found]),
        None if found[0].tail is None else np.concatenate([one.tail for one in found if one.tail is not None]),
        None if found[0].mean is None else np.concatenate([one.mean for one in found if one.mean is not None]),
        None if found[0].first is None else np.concatenate([one.first for one in found if one.first is not None]))
