"""Norms and gated layers of a student's blocks with little kept for the backward pass: what they compute comes from the
model's own formulas, and what autograd would keep of them is computed again. Must not know adapters beyond what
`lora.py` says of a layer.

Sources: Liger Kernel, https://arxiv.org/abs/2410.10989, sections 3.1 and 3.3 (their gradients)."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch

from localdistill.modelfiles.architectures import Architecture
from localdistill.trainers.torch.lora import LoraParts, lora_backward, lora_forward, lora_parts


def keep_little(model: Any, kind: Architecture) -> None:
    """Let the norms of `model`, and its gated layers whose last projection is adapted by our function, compute through
    this module. Set on single layers: other models of the process are as they were."""
    one = 1.0 if kind.gguf.norms_add_one else 0.0
    for module in model.modules():
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if type(module).__name__.endswith("RMSNorm") and eps is not None:
            module.forward = MethodType(_norm_of(type(module).forward, float(eps), one), module)
        last = getattr(module, "down_proj", None)
        if last is not None and lora_parts(last) is not None:
            module.forward = MethodType(_GATED[kind.activation], module)


def _norm_of(own: Callable[..., torch.Tensor], eps: float, one: float) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """The forward of a norm whose class computes by `own`."""

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = _Norm.apply(x, module, own, eps, one)  # type: ignore[no-untyped-call]
        return result

    return forward


class _Norm(torch.autograd.Function):
    """y = (w + one) x / rms(x), keeping x alone."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, module: Any, own: Callable[..., torch.Tensor], eps: float,
                one: float) -> torch.Tensor:
        """x (..., H) -> (..., H)."""
        ctx.save_for_backward(x)
        ctx.weight, ctx.eps, ctx.one = module.weight, eps, one
        return own(module, x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of x: r (g - n mean(g n)) with r = 1 / rms(x), n = r x, g the gradient times the weight."""
        (x,) = ctx.saved_tensors
        normed = x.float()
        shrink = torch.rsqrt(normed.square().mean(-1, keepdim=True).add_(ctx.eps))
        normed = normed * shrink
        above = grads[0].float() * (ctx.weight.float() + ctx.one)
        along = (above * normed).mean(-1, keepdim=True)
        return above.sub_(normed.mul_(along)).mul_(shrink).to(x.dtype), None, None, None, None


class _GatedLora(torch.autograd.Function):
    """y = L(act(gate) up) with an adapted layer L, keeping gate and up and not what comes of them."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, activation: str, last: LoraParts, down: torch.Tensor,
                high: torch.Tensor) -> torch.Tensor:
        """gate and up (..., F) -> (..., H); `down` and `high` are the factors of `last`, for autograd."""
        act, _ = _ACTIVATIONS[activation]
        result, inner = lora_forward(act(gate).mul_(up).reshape(-1, gate.shape[-1]), last)
        ctx.save_for_backward(gate, up, inner, down, high)
        ctx.activation, ctx.last = activation, last
        return result.view(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of gate, up, and both factors."""
        gate, up, inner, *_ = ctx.saved_tensors
        act, act_backward = _ACTIVATIONS[ctx.activation]
        activated = act(gate)
        flat = (activated * up).reshape(-1, gate.shape[-1])
        above, by_down, by_up = lora_backward(grads[0].reshape(len(flat), -1), flat, inner, ctx.last, True)
        assert above is not None
        above = above.view_as(gate)
        by_gate = act_backward(above * up, gate)
        return by_gate, above.mul_(activated), None, None, by_down, by_up


_Act = Callable[..., torch.Tensor]
_ACTIVATIONS: dict[str, tuple[_Act, _Act]] = {
    "silu": (torch.nn.functional.silu, lambda grad, gate: torch.ops.aten.silu_backward(grad, gate)),
    "gelu_pytorch_tanh": (lambda gate: torch.nn.functional.gelu(gate, approximate="tanh"),
                          lambda grad, gate: torch.ops.aten.gelu_backward(grad, gate, approximate="tanh")),
}
"""The activation of a gate (F,), and its gradient from that of what came of it."""


def _gated(activation: str) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """The forward of gated layers with this activation."""

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        """x (..., H) -> (..., H); both halves may come of one projection."""
        if hasattr(module, "gate_up_proj"):
            gate, up = module.gate_up_proj(x).chunk(2, dim=-1)
        else:
            gate, up = module.gate_proj(x), module.up_proj(x)
        last = lora_parts(module.down_proj)
        assert last is not None
        result: torch.Tensor = _GatedLora.apply(  # type: ignore[no-untyped-call]
            gate, up, activation, last, last.down, last.up)
        return result

    return forward


_GATED = {activation: _gated(activation) for activation in _ACTIVATIONS}
