"""Attention of documents that stand one after the other in one row, each of which sees only itself: no padding is
computed, and no mask is held. Must not know what the documents are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx


@contextmanager
def per_document(module: Any, ends: Sequence[int]) -> Iterator[None]:
    """While this is open, models of the mlx-lm `module` attend within documents that end at `ends` (the last of which
    is the length of the row); calls with keys of their own cache are not for here. The mask that a layer is given is
    its window in tokens, or None. Everything that builds on it must happen inside, on this thread."""
    before = module.scaled_dot_product_attention
    starts = [0, *ends[:-1]]

    def attend(queries: mx.array, keys: mx.array, values: mx.array, cache: object, scale: float, mask: object,
               sinks: object = None) -> mx.array:
        """queries (1, N, T, D), keys and values (1, K, T, D) -> (1, N, T, D), causal in each document."""
        parts = [mx.fast.scaled_dot_product_attention(
            queries[:, :, start:end], keys[:, :, start:end], values[:, :, start:end], scale=scale,
            mask=_seen(end - start, mask) if isinstance(mask, int) and mask < end - start else "causal")
            for start, end in zip(starts, ends, strict=True)]
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)

    module.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        module.scaled_dot_product_attention = before


def _seen(length: int, window: int | None) -> mx.array:
    """Which places (T, T) are seen from which: none that comes later, and of those before, `window` with its own."""
    places = mx.arange(length)
    back = places[:, None] - places[None]
    return (back >= 0) & (back < window) if window is not None else back >= 0


def whole_mask(ends: Sequence[int], window: int | None) -> mx.array:
    """The same for documents that end at `ends`, each of which sees itself alone: for attention of a model's own."""
    places = mx.arange(ends[-1])
    owner = sum((places >= end).astype(mx.int32) for end in ends[:-1]) if len(ends) > 1 else mx.zeros_like(places)
    return _seen(ends[-1], window) & (owner[:, None] == owner[None])
