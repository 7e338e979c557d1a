"""Attention of rows that stand one after the other in one sequence, each of which sees only itself: no padding is
computed and no mask is held. On a CPU blocks of plain products, a third of what torch's fused kernel takes for short
rows in bfloat16; on CUDA torch's kernel for sequences of unlike length. Must not know what the rows are.

Source of computing scores again in the backward pass: FlashAttention, https://arxiv.org/abs/2205.14135."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import groupby, pairwise
from typing import Any, cast

import torch

from localdistill.core.borders import BORDERS

NAME = "localdistill_packed"
_KERNEL_WIDTH = 256
"""Widest head that torch's kernel for CUDA takes."""
ROUND_LENGTH = 32
"""Sequences, and in attention short rows, are drawn out to a multiple of so many tokens. For matrices of a height that
it has not seen torch's library for CPUs makes a program first, which takes 4 ms: with a score of products in each pass
that was a third of a small student's step. Short rows of about one length are computed together besides."""
_TILE_TOKENS = 4096
"""So many tokens of short rows are computed together at most."""


def use_packed(model: Any) -> None:
    """Let `model` attend within the rows whose `ends` its forward passes bring."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)


def packed_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                     attention_mask: torch.Tensor | None, scaling: float | None = None,
                     sliding_window: int | None = None, softcap: float | None = None, ends: Sequence[int] = (),
                     **_: object) -> tuple[torch.Tensor, None]:
    """query (B, N, T, D), key and value (B, K, T, D) with N a multiple of K -> (B, T, N, D): causal within rows that
    end at `ends`, the last of which is T; without any the whole is one. Dropout of attention that a configuration
    states is not computed: a row has the same loss whatever it stands beside."""
    if attention_mask is not None or query.shape[2] != key.shape[2]:
        raise ValueError("packed rows are attended without mask and without keys of an earlier pass")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen = AttentionScope(tuple(ends) or (query.shape[2],), sliding_window, softcap)
    kernel, attend = _kernel() if query.is_cuda else None, cast("Callable[..., torch.Tensor]", _BlockedAttention.apply)
    if kernel and softcap is None and query.dtype != torch.float32 and query.shape[-1] <= _KERNEL_WIDTH:
        attend = partial(_by_kernel, kernel)
    return torch.stack([attend(*parts, scale, seen) for parts in zip(query, key, value, strict=True)]), None


@dataclass(frozen=True)
class AttentionScope:
    """What is seen from where, and how."""

    ends: tuple[int, ...]
    window: int | None
    """So many tokens back, with its own; None without a limit."""
    cap: float | None
    """Where scores are bent to stay below a size; None where they are not."""


@dataclass(frozen=True)
class Tile:
    """Queries whose products are taken together: some of one row, or those of several short rows that stand one after
    the other."""

    queries: slice
    keys: slice
    """All that the queries see, and more."""
    rows: int = 1
    spread: torch.Tensor | None = None
    """(rows * L,) which of the tile's tokens is at each place of its rows, the number of them where there is none; None
    for one row without such places."""
    places: torch.Tensor | None = None
    """(tokens,) the other way round."""

    def take(self, part: torch.Tensor, which: slice, keys: int) -> torch.Tensor:
        """(heads, T, D) -> (keys * rows, heads / keys * L, D): those together that share a head of keys; zero where no
        token is."""
        heads, _, width = part.shape
        some = part[:, which]
        if self.spread is None:
            return some.reshape(keys, -1, width)
        spread = torch.nn.functional.pad(some, (0, 0, 0, 1)).index_select(1, self.spread)
        by_row = spread.view(keys, heads // keys, self.rows, -1, width).transpose(1, 2)
        return by_row.reshape(keys * self.rows, -1, width)

    def give(self, found: torch.Tensor, heads: int) -> torch.Tensor:
        """(keys * rows, heads / keys * L, D) -> (heads, tokens, D)."""
        width = found.shape[-1]
        if self.places is None:
            return found.reshape(heads, -1, width)
        keys = len(found) // self.rows
        by_head = found.view(keys, self.rows, heads // keys, -1, width).transpose(1, 2).reshape(heads, -1, width)
        return by_head.index_select(1, self.places)

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """(queries of a row, keys of a row) to be added: minus infinity where nothing is seen. Places without a token
        stand behind all others, so that none sees them."""
        count = self.keys.stop - self.keys.start if self.spread is None else len(self.spread) // self.rows
        first = self.queries.start - self.keys.start
        back = torch.arange(first, count, device=like.device)[:, None] - torch.arange(count, device=like.device)[None]
        hidden = back < 0 if window is None else (back < 0) | (back >= window)
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))


def _tiles(seen: AttentionScope, device: torch.device) -> tuple[Tile, ...]:
    return _cut(seen.ends, seen.window, BORDERS.attended_rows, device)


@lru_cache(maxsize=4)
def _cut(ends: tuple[int, ...], window: int | None, most: int, device: torch.device) -> tuple[Tile, ...]:
    """All queries, of a long row `most` at once; kept from one layer to the next. How a row is computed depends on
    nothing but its length."""
    found = list[Tile]()
    for long, rows in groupby(pairwise((0, *ends)), key=lambda row: _rounded(row[1] - row[0])):
        if long > most:
            found += [Tile(slice(first, last), slice(since, last)) for start, end in rows
                      for first, last, since in _blocks(start, end, window, most)]
            continue
        several = list(rows)
        at_once = max(1, _TILE_TOKENS // long)
        found += [_tile(several[place:place + at_once], long, device) for place in range(0, len(several), at_once)]
    return tuple(found)


def _rounded(length: int) -> int:
    return -(-length // ROUND_LENGTH) * ROUND_LENGTH


def _blocks(start: int, end: int, window: int | None, most: int) -> Iterator[tuple[int, int, int]]:
    """First and last query of each block of a long row, and the first key that one of them sees."""
    for first in range(start, end, most):
        yield first, min(end, first + most), start if window is None else max(start, first - window + 1)


def _tile(rows: Sequence[tuple[int, int]], long: int, device: torch.device) -> Tile:
    """Of short rows, each drawn out to `long` places."""
    first, last = rows[0][0], rows[-1][1]
    starts, ends = (torch.tensor(side)[:, None] for side in zip(*rows, strict=True))
    tokens = starts + torch.arange(long)
    is_there = (tokens < ends).flatten()
    spread = torch.where(is_there, tokens.flatten() - first, last - first)
    spread, places = (part.to(device) for part in (spread, is_there.nonzero().flatten()))
    return Tile(slice(first, last), slice(first, last), len(rows), spread, places)


class _BlockedAttention(torch.autograd.Function):
    """Keeps queries, keys and values; a tile's scores are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float,
                seen: AttentionScope) -> torch.Tensor:
        """query (N, T, D), key and value (K, T, D) -> (T, N, D)."""
        mixed = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
        for tile in _tiles(seen, query.device):
            some, keys, values = _taken(tile, query, key, value)
            shares, _ = _shares(tile, some, keys, scale, seen)
            mixed[tile.queries] = tile.give(torch.bmm(shares, values), len(query)).transpose(0, 1)
        ctx.save_for_backward(query, key, value)
        ctx.scale, ctx.seen = scale, seen
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        seen, scale = ctx.seen, ctx.scale
        by_query = torch.empty_like(query)
        by_key, by_value = torch.zeros_like(key), torch.zeros_like(value)
        for tile in _tiles(seen, query.device):
            some, keys, values = _taken(tile, query, key, value)
            shares, bent = _shares(tile, some, keys, scale, seen)
            above = tile.take(grads[0].transpose(0, 1), tile.queries, len(key))
            by_value[:, tile.keys] += tile.give(torch.bmm(shares.transpose(1, 2), above), len(key))
            by_shares = torch.bmm(above, values.transpose(1, 2))
            by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)
            if bent is not None:
                by_scores *= 1 - bent.square()
            by_scores *= scale
            by_query[:, tile.queries] = tile.give(torch.bmm(by_scores, keys), len(query))
            by_key[:, tile.keys] += tile.give(torch.bmm(by_scores.transpose(1, 2), some), len(key))
        return by_query, by_key, by_value, None, None


def _taken(tile: Tile, query: torch.Tensor, key: torch.Tensor,
           value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a tile computes with, of each: (K * rows, ..., D)."""
    count = len(key)
    return (tile.take(query, tile.queries, count), tile.take(key, tile.keys, count),
            tile.take(value, tile.keys, count))


def _shares(tile: Tile, some: torch.Tensor, keys: torch.Tensor, scale: float,
            seen: AttentionScope) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(K * rows, N / K * n, m): how much of every value each query of a tile takes; and the bent scores by their
    cap."""
    mask = tile.mask(seen.window, some)
    mask = mask.repeat(some.shape[1] // len(mask), 1)
    if seen.cap is None:
        return torch.baddbmm(mask.expand(len(some), -1, -1), some, keys.transpose(1, 2), alpha=scale).softmax(-1), None
    bent = torch.bmm(some, keys.transpose(1, 2)).mul_(scale / seen.cap).tanh_()
    return (bent * seen.cap).add_(mask).softmax(-1), bent


@cache
def _kernel() -> Callable[..., Any] | None:
    """torch's attention for sequences of unlike length, where this version of it has groups of queries and windows."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    wanted = {"scale", "window_size", "enable_gqa"}
    return varlen_attn if wanted <= set(inspect.signature(varlen_attn).parameters) else None


def _by_kernel(kernel: Callable[..., Any], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float,
               seen: AttentionScope) -> torch.Tensor:
    """query (N, T, D), key and value (K, T, D) -> (T, N, D) by torch's kernel for CUDA. Its window counts the tokens
    before a token's own."""
    ends = (0, *seen.ends)
    longest = max(last - first for first, last in pairwise(ends))
    bounds = torch.tensor(ends, dtype=torch.int32, device=query.device)
    before = -1 if seen.window is None or seen.window >= longest else seen.window - 1
    rows = (part.transpose(0, 1).contiguous() for part in (query, key, value))
    found: torch.Tensor = kernel(*rows, bounds, bounds, longest, longest, scale=scale, window_size=(before, 0),
                                 enable_gqa=len(query) != len(key))
    return found
