"""Attention for short rows on a CPU in bfloat16, where torch's fused kernel spends most of its backward pass on
overhead: three plain matrix products take a third of its time at 130 tokens. Must not see any mask but causal."""

from __future__ import annotations

from typing import Any

import torch

NAME = "localdistill_short_rows"
LONGEST = 256
"""Rows longer than this are left to torch's fused kernel, which needs less memory."""


def short_row_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                        attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None,
                        **_: object) -> tuple[torch.Tensor, None]:
    """query (B, N, T, D), key and value (B, K, T, D) with N a multiple of K -> (B, T, N, D), strictly causal."""
    if attention_mask is not None or dropout:
        raise ValueError("short rows are attended without mask and dropout")
    batch, heads, length, width = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    future = torch.full((length, length), float("-inf"), dtype=query.dtype, device=query.device).triu(1)
    flat = (batch * heads, length, width)
    scores = torch.baddbmm(future.expand(batch * heads, length, length), query.reshape(flat),
                           key.reshape(flat).transpose(1, 2), alpha=scaling or width ** -0.5)
    mixed = torch.bmm(scores.softmax(-1), value.reshape(flat))
    return mixed.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def use_short_rows(model: Any, longest: int) -> bool:
    """Attend with plain products where that is faster: bfloat16, CPU, rows of at most 256 tokens, no window."""
    from transformers import AttentionInterface

    config = model.config
    windowed = bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
    if model.dtype != torch.bfloat16 or model.device.type != "cpu" or longest > LONGEST or windowed:
        return False
    AttentionInterface.register(NAME, short_row_attention)
    model.set_attn_implementation(NAME)
    return True
