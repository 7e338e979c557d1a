"""Picks the next tokens of many rows at once, on the device that computed their logits: greedy, or drawn after
temperature, top-k and top-p by inversion, from one random number of each row's own generator. Must not know models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

_FIRST_LOOK = 1024
"""A nucleus that lies within so many of the likeliest tokens is found without sorting the whole vocabulary."""


class Sampled(Protocol):
    """How the tokens of one row are picked."""

    temperature: float
    """0 is greedy."""
    top_p: float
    top_k: int
    """0 keeps all."""
    generator: torch.Generator | None
    """On the CPU; needed where the row is not greedy."""


def pick_tokens(logits: torch.Tensor, rows: Sequence[Sampled]) -> list[int]:
    """The next token of every row from logits (B, V). A row's tokens do not depend on the others."""
    chosen = logits.argmax(-1)
    groups: dict[tuple[float, float, int], list[int]] = {}
    for place, row in enumerate(rows):
        if row.temperature > 0:
            groups.setdefault((row.temperature, row.top_p, row.top_k), []).append(place)
    for (temperature, top_p, top_k), places in groups.items():
        draws = torch.stack([torch.rand((), generator=rows[place].generator) for place in places])
        index = torch.tensor(places, device=logits.device)
        scores = logits[index].float() / temperature
        chosen[index] = _drawn(scores, draws.to(logits.device), top_p, top_k)
    tokens: list[int] = chosen.tolist()
    return tokens


def _drawn(scores: torch.Tensor, draws: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """One token (n,) of each row of scores (n, V) by draws (n,) between 0 and 1."""
    size = scores.shape[-1]
    if not 0 < top_k < size:
        if top_p >= 1:
            return _inverted(scores.softmax(-1), draws)
        top_k = size
    shares = scores.softmax(-1) if top_k == size else None
    look = min(top_k, _FIRST_LOOK) if shares is not None else top_k
    best, indices = scores.topk(look, dim=-1)
    if shares is not None and look < size and bool((shares.gather(-1, indices).sum(-1) < top_p).any()):
        best, indices = scores.sort(dim=-1, descending=True)
    kept = best.softmax(-1) if shares is None else shares.gather(-1, indices)
    # The token that crosses top_p stays, so at least one always does.
    kept = kept.masked_fill(kept.cumsum(-1) - kept >= top_p, 0.0)
    return indices.gather(-1, _inverted(kept, draws).unsqueeze(-1)).squeeze(-1)


def _inverted(shares: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The place (n,) at which the sum of shares (n, K) passes each draw, of the places that have a share at all."""
    sums = shares.cumsum(-1)
    total = sums[:, -1:].contiguous()
    wanted = torch.searchsorted(sums, draws.unsqueeze(-1) * total, right=True)
    last = torch.searchsorted(sums, total, right=False)
    return torch.minimum(wanted, last).squeeze(-1)
