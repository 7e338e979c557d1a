"""Low-rank adapters as peft makes and first sets them, with a forward and backward of our own on peft's parameters
where that computes the same in fewer passes: its work for each layer costs as much as a small student itself. Trained
rows of tags are modules of ours: through peft they take a second pass over the vocabulary. Must not know about data or
training loops.

Source: LoRA, https://arxiv.org/abs/2106.09685, section 4.1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from localdistill.core.errors import UsageError
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.loading import dense_weight
from localdistill.trainers._options import TAKEN_FROM_BASE, AdapterOptions

_ADAPTER = "default"
"""What peft calls the one that is trained."""
_INITIAL: Mapping[str, bool | str] = {"gaussian": "gaussian", "orthogonal": "orthogonal", "pissa": "pissa_niter_16",
                                      "olora": "olora"}
"""What peft calls the ways to set the factors. PiSSA's own fast singular values: 16 iterations (arXiv 2404.02948)."""


@dataclass(frozen=True)
class LoraParts:
    """What our function computes with, of a layer of peft: y = x W^T + b + s (x A^T) B^T with a frozen W."""

    weight: Any
    """W as it is held. Taken at each pass: where frozen weights come from elsewhere they are there only then."""
    bias: torch.Tensor | None
    down: torch.Tensor
    """A (r, in)"""
    up: torch.Tensor
    """B (out, r)"""
    scaling: float


def lora_parts(layer: Any) -> LoraParts | None:
    """Of a layer that computes by our function; None of any other."""
    if "forward" not in vars(layer) or not hasattr(layer, "lora_A"):
        return None
    base = layer.base_layer
    return LoraParts(base.weight, base.bias, layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight,
                     layer.scaling[_ADAPTER])


def lora_forward(flat: torch.Tensor, parts: LoraParts) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, in) -> y (n, out) and x A^T (n, r), in the dtype of x."""
    inner = flat @ parts.down.to(flat.dtype).t()
    result = functional.linear(flat, dense_weight(parts.weight).to(flat.dtype), parts.bias)
    return result.addmm_(inner, (parts.up * parts.scaling).to(flat.dtype).t()), inner


def lora_backward(grad: torch.Tensor, flat: torch.Tensor, inner: torch.Tensor, parts: LoraParts,
                  goes_on: bool) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """Gradients of x (n, in), where it `goes_on` below, of A and of B, from that of y (n, out)."""
    grad_inner = grad @ (parts.up * parts.scaling).to(grad.dtype)
    grad_down = (grad_inner.t() @ flat).float()
    grad_up = (grad.t() @ inner).float() * parts.scaling
    if not goes_on:
        return None, grad_down, grad_up
    below = grad @ dense_weight(parts.weight).to(grad.dtype)
    return below.addmm_(grad_inner, parts.down.to(grad.dtype)), grad_down, grad_up


class _LoraFunction(torch.autograd.Function):
    """A layer of peft, keeping only x and x A^T for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, parts: LoraParts, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out) in the dtype of x; `down` and `up` are those of `parts`, for autograd."""
        flat = x.reshape(-1, x.shape[-1])
        result, inner = lora_forward(flat, parts)
        ctx.save_for_backward(flat, inner, down, up)
        ctx.parts = parts
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, and of both factors."""
        flat, inner, *_ = ctx.saved_tensors
        grad = grads[0].reshape(len(flat), -1)
        below, by_down, by_up = lora_backward(grad, flat, inner, ctx.parts, ctx.needs_input_grad[0])
        return None if below is None else below.view(*grads[0].shape[:-1], -1), None, by_down, by_up


def _fused(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """What a layer of peft computes, in its place."""
    parts = lora_parts(layer)
    assert parts is not None
    result: torch.Tensor = _LoraFunction.apply(x, parts, parts.down, parts.up)  # type: ignore[no-untyped-call]
    return result


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


@dataclass(frozen=True)
class Attached:
    """Adapters on a model."""

    trained: dict[str, nn.Parameter]
    """Under PEFT's names, all in float32."""
    first: Mapping[str, torch.Tensor]
    """The first values of factors that were taken away from the base's weights; empty where nothing was."""
    rank: int
    kind: str

    def update(self) -> tuple[dict[str, torch.Tensor], int, str]:
        """Tensors, rank and kind of the adapter over the base as it is stored. What was taken from it is given back:
        s (B A - B0 A0) as factors of twice the rank."""
        tensors = {name: value.detach() for name, value in self.trained.items()}
        for name, first in self.first.items():
            beside = ".lora_A." in name
            tensors[name] = torch.cat([tensors[name], first if beside else -first], dim=0 if beside else 1)
        kind = self.kind if self.kind in ("rslora", "dora") else "lora"
        return tensors, self.rank * (2 if self.first else 1), kind


def attach_lora(model: Any, options: AdapterOptions, seed: int, start: AdapterFolder | None = None) -> Attached:
    """Put peft's adapters over every target of `model`; those that go on from `start` begin with its weights. Raises
    ValueError when no layer matches."""
    from peft import LoraConfig, inject_adapter_in_model

    names = target_names(model, options.targets)
    # Another adapter is one over the whole base: what it began with is in it.
    kind = "lora" if start is not None and options.adapter in TAKEN_FROM_BASE else options.adapter
    rank = options.rank * (1 if kind == options.adapter else 2)
    config = LoraConfig(
        r=rank, lora_alpha=options.alpha * rank / options.rank, lora_dropout=options.dropout, bias="none",
        target_modules=sorted({name.rpartition(".")[2] for name in names}), use_rslora=kind == "rslora",
        use_dora=kind == "dora", init_lora_weights=_INITIAL.get(kind, True))
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, _ADAPTER)
    trained: dict[str, nn.Parameter] = {}
    for name in names:
        trained |= _parameters(name, model.get_submodule(name), None if kind in _INITIAL else draws)
    first = {name: value.detach().clone() for name, value in trained.items()} if kind in TAKEN_FROM_BASE else {}
    return Attached(trained, first, rank, kind)


def _parameters(name: str, layer: Any, draws: torch.Generator | None) -> dict[str, nn.Parameter]:
    """What of a layer of peft is trained, in float32; the layer computes by our function where that is the same. With
    `draws` its factor A is set by them, by peft's own rule: so a seed means the same on every device and in every
    precision of the base."""
    down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    found = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    if _ADAPTER in layer.lora_magnitude_vector:
        found[f"{name}.lora_magnitude_vector"] = layer.lora_magnitude_vector[_ADAPTER].weight
    for value in found.values():
        value.data = value.data.float().contiguous()
    if draws is not None:
        bound = 1.0 / math.sqrt(down.shape[1])
        down.data.copy_(torch.empty(down.shape).uniform_(-bound, bound, generator=draws))
    if not layer.lora_variant and isinstance(layer.lora_dropout[_ADAPTER], nn.Identity):
        layer.forward = MethodType(_fused, layer)
    return {f"base_model.model.{key}": value for key, value in found.items()}


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
    hint = "train both arms with the same adapter, rank, alpha and targets"
    parts = {name for name in trained if ".lora_" in name}
    if parts != {name for name in start.tensors if ".lora_" in name}:
        layers = sum(".lora_A." in name for name in parts)
        raise UsageError(f"the adapter to start from changes {len(start.layers)} layers, this training {layers}, or "
                         "others, or in another way", hint)
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
        if (lengths := start.lengths(layer)) is not None:
            trained[f"base_model.model.{layer}.lora_magnitude_vector"].data.copy_(lengths)
    places = [tags.index(token) for token in start.token_ids]
    for layer in ("model.embed_tokens", "lm_head"):
        rows, own = start.rows(layer), trained.get(f"base_model.model.{layer}.token_adapter.trainable_tokens_delta")
        if rows is not None and own is not None:
            own.data[places] = rows.to(own)
