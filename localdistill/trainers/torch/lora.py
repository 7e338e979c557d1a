"""Low-rank adapters (LoRA) as modules: the fast forward and backward, and trained rows for tags. Written here rather
than taken from a library because its per-layer work costs as much as a small student itself; the layout on disk is
PEFT's, and a test loads it with PEFT. Must not know about data or training loops.

Source: LoRA, https://arxiv.org/abs/2106.09685, section 4.1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from localdistill.core.errors import UsageError
from localdistill.modelfiles.adapter import AdapterFolder


class _LoraFunction(torch.autograd.Function):
    """y = x W^T + b + s (x A^T) B^T with a frozen W, keeping only x and x A^T for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, down: torch.Tensor,
                up: torch.Tensor, scaling: float) -> torch.Tensor:
        """x (..., in), weight (out, in), down (r, in), up (out, r) -> (..., out) in the dtype of x."""
        flat = x.reshape(-1, x.shape[-1])
        low, high = down.to(x.dtype), (up * scaling).to(x.dtype)
        inner = flat @ low.t()
        result = functional.linear(flat, weight, bias)
        result.addmm_(inner, high.t())
        ctx.save_for_backward(flat, inner, weight, low, high)
        ctx.scaling = scaling
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, down and up."""
        flat, inner, weight, low, high = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        grad_inner = grad @ high
        grad_down = (grad_inner.t() @ flat).float()
        grad_up = (grad.t() @ inner).float() * ctx.scaling
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_inner, low).view(*grads[0].shape[:-1], -1)
        return grad_x, None, None, grad_down, grad_up, None


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trained low-rank update in float32."""

    def __init__(self, base: nn.Linear, rank: int, scaling: float, dropout: float,
                 generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scaling = scaling
        self.dropout = dropout
        down = torch.empty(rank, base.in_features)
        bound = 1.0 / math.sqrt(base.in_features)
        down.uniform_(-bound, bound, generator=generator)
        device = base.weight.device
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self.fuses = type(base) is nn.Linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out)."""
        drops = self.training and self.dropout > 0
        if self.fuses and not drops:
            fused: Callable[..., torch.Tensor] = _LoraFunction.apply
            return fused(x, self.base.weight, self.base.bias, self.down, self.up, self.scaling)
        seen = functional.dropout(x, self.dropout, training=drops)
        inner = functional.linear(seen, self.down.to(x.dtype))
        update = functional.linear(inner, (self.up * self.scaling).to(x.dtype))
        return torch.add(self.base(x), update)


class TagEmbedding(nn.Module):
    """A frozen embedding whose rows of a few tokens are trained: `rows` (n, H) in float32. `scale` is what the frozen
    one multiplies its rows by."""

    def __init__(self, base: nn.Embedding, token_ids: Sequence[int], rows: nn.Parameter, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.base = base
        self.rows = rows
        slots = torch.full((base.num_embeddings,), -1, dtype=torch.long, device=base.weight.device)
        slots[torch.tensor(token_ids, device=slots.device)] = torch.arange(len(token_ids), device=slots.device)
        self.slots: torch.Tensor
        self.register_buffer("slots", slots, persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B, T) -> (B, T, H)."""
        slots = self.slots[ids]
        trained = self.rows.to(self.base.weight.dtype)[slots.clamp(min=0)]
        if self.scale != 1.0:
            trained = trained * torch.tensor(self.scale, dtype=trained.dtype, device=trained.device)
        return torch.where((slots >= 0).unsqueeze(-1), trained, self.base(ids))


class TagHead(nn.Module):
    """A frozen output projection whose rows of a few tokens are trained; shares `rows` with a tied embedding."""

    def __init__(self, base: nn.Linear, token_ids: Sequence[int], rows: nn.Parameter) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self.ids: torch.Tensor
        self.register_buffer("ids", torch.tensor(token_ids, device=base.weight.device), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) -> logits (..., V)."""
        logits: torch.Tensor = self.base(hidden)
        trained = functional.linear(hidden, self.rows.to(hidden.dtype))
        return logits.index_copy(-1, self.ids, trained.to(logits.dtype))


def target_names(model: nn.Module, targets: str) -> list[str]:
    """Full names of the linear layers to adapt: `all-linear` (without the output projection) or comma-separated ends.

    Raises ValueError when nothing matches.
    """
    wanted = {name.strip() for name in targets.split(",") if name.strip()}
    found = [name for name, module in model.named_modules()
             if isinstance(module, nn.Linear) and name.rpartition(".")[2] != "lm_head"
             and (targets == "all-linear" or name.rpartition(".")[2] in wanted)]
    if not found:
        raise ValueError(f"no linear layer matches '{targets}'")
    return found


def attach_lora(model: Any, targets: str, rank: int, scaling: float, dropout: float,
                seed: int) -> dict[str, nn.Parameter]:
    """Put a LoraLinear over every target of `model`; the trained parameters under PEFT's names."""
    generator = torch.Generator().manual_seed(seed)
    trained: dict[str, nn.Parameter] = {}
    for name in target_names(model, targets):
        parent, _, leaf = name.rpartition(".")
        layer = LoraLinear(model.get_submodule(name), rank, scaling, dropout, generator)
        setattr(model.get_submodule(parent), leaf, layer)
        trained[f"base_model.model.{name}.lora_A.weight"] = layer.down
        trained[f"base_model.model.{name}.lora_B.weight"] = layer.up
    return trained


def attach_tags(model: Any, token_ids: Sequence[int], tied: bool, scale: float = 1.0) -> dict[str, nn.Parameter]:
    """Train the rows of `token_ids` in the embedding, which multiplies its rows by `scale`, and the output projection;
    parameters under PEFT's names."""
    if not token_ids:
        return {}
    embedding, head = model.model.embed_tokens, model.lm_head
    index = torch.tensor(token_ids, device=embedding.weight.device)
    rows = nn.Parameter(embedding.weight.detach()[index].float())
    trained = {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": rows}
    head_rows = rows
    if not tied:
        head_rows = nn.Parameter(head.weight.detach()[index].float())
        trained["base_model.model.lm_head.token_adapter.trainable_tokens_delta"] = head_rows
    model.model.embed_tokens = TagEmbedding(embedding, token_ids, rows, scale)
    model.lm_head = TagHead(head, token_ids, head_rows)
    return trained


def start_from(trained: Mapping[str, nn.Parameter], tags: Sequence[int], start: AdapterFolder, scaling: float) -> None:
    """Give `trained` the weights of another adapter; rows of tags that it did not train stay the base's. Raises
    UsageError when it is not of the same shape."""
    hint = "train both arms with the same rank, alpha and targets"
    layers = {name for name in trained if ".lora_" in name}
    theirs = {name for name in start.tensors if ".lora_" in name}
    if layers != theirs:
        raise UsageError(f"the adapter to start from changes {len(theirs) // 2} layers, this training "
                         f"{len(layers) // 2}, or others", hint)
    if not math.isclose(start.scaling, scaling, rel_tol=1e-6):
        raise UsageError(f"the adapter to start from counts {start.scaling:g} times (alpha / rank), this training's "
                         f"{scaling:g} times", hint)
    for layer in sorted(start.layers):
        for side, factor in zip("AB", start.factors(layer), strict=True):
            value = trained[f"base_model.model.{layer}.lora_{side}.weight"]
            if value.shape != factor.shape:
                raise UsageError(f"the adapter to start from has rank {min(factor.shape)}, this training "
                                 f"{min(value.shape)}", hint)
            value.data.copy_(factor)
    places = [tags.index(token) for token in start.token_ids]
    for layer in ("model.embed_tokens", "lm_head"):
        rows, own = start.rows(layer), trained.get(f"base_model.model.{layer}.token_adapter.trainable_tokens_delta")
        if rows is not None and own is not None:
            own.data[places] = rows.to(own)
