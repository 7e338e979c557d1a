"""Attention of rows that stand one after the other in one sequence, each of which sees only itself: no padding is
computed and no mask is held. On a CPU blocks of plain products, a third of what torch's fused kernel takes for short
rows in bfloat16; on CUDA torch's kernel for sequences of unlike length. Must not know what the rows are.

Source of computing scores again in the backward pass: FlashAttention, https://arxiv.org/abs/2205.14135."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any, cast

import torch

from localdistill.core.borders import BORDERS

NAME = "localdistill_packed"
_KERNEL_WIDTH = 256
"""Widest head that torch's kernel for CUDA takes."""


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

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """First and last query of each block, and the first key that one of them sees."""
        start = 0
        for end in self.ends:
            for first in range(start, end, BORDERS.attended_rows):
                since = start if self.window is None else max(start, first - self.window + 1)
                yield first, min(end, first + BORDERS.attended_rows), since
            start = end

    def mask(self, first: int, last: int, since: int, like: torch.Tensor) -> torch.Tensor:
        """(queries, keys) to be added: minus infinity where nothing is seen."""
        back = (torch.arange(first, last, device=like.device)[:, None]
                - torch.arange(since, last, device=like.device)[None])
        hidden = back < 0 if self.window is None else (back < 0) | (back >= self.window)
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))


class _BlockedAttention(torch.autograd.Function):
    """Keeps queries, keys and values; a block's scores are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float,
                seen: AttentionScope) -> torch.Tensor:
        """query (N, T, D), key and value (K, T, D) -> (T, N, D)."""
        mixed = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
        for first, last, since in seen.blocks():
            shares, _ = _shares(query, key, scale, seen, (first, last, since))
            found = torch.bmm(shares, value[:, since:last])
            mixed[first:last] = found.view(len(query), last - first, -1).transpose(0, 1)
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
        for first, last, since in seen.blocks():
            shares, bent = _shares(query, key, scale, seen, (first, last, since))
            above = grads[0][first:last].transpose(0, 1).reshape(len(key), -1, query.shape[-1])
            by_value[:, since:last] += torch.bmm(shares.transpose(1, 2), above)
            by_shares = torch.bmm(above, value[:, since:last].transpose(1, 2))
            by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)
            if bent is not None:
                by_scores *= 1 - bent.square()
            by_scores *= scale
            by_query[:, first:last] = torch.bmm(by_scores, key[:, since:last]).view(len(query), last - first, -1)
            by_key[:, since:last] += torch.bmm(by_scores.transpose(1, 2), _grouped(query, len(key), first, last))
        return by_query, by_key, by_value, None, None


def _grouped(query: torch.Tensor, keys: int, first: int, last: int) -> torch.Tensor:
    """(K, N / K * n, D): the queries of a block, those together that share a head of keys."""
    return query[:, first:last].reshape(keys, -1, query.shape[-1])


def _shares(query: torch.Tensor, key: torch.Tensor, scale: float, seen: AttentionScope,
            block: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(K, N / K * n, m): how much of every value each query of a block takes; and the bent scores by their cap."""
    first, last, since = block
    some, keys = _grouped(query, len(key), first, last), key[:, since:last].transpose(1, 2)
    mask = seen.mask(first, last, since, query).repeat(len(query) // len(key), 1)
    if seen.cap is None:
        return torch.baddbmm(mask.expand(len(key), -1, -1), some, keys, alpha=scale).softmax(-1), None
    bent = torch.bmm(some, keys).mul_(scale / seen.cap).tanh_()
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
