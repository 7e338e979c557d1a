"""One decoder layer whose activations are computed again in the backward pass, with what it is given kept in main
memory, and whose frozen weights may come from there each time that they are needed. A step comes to the same, bit for
bit. Must not know what gives way when.

Sources: recomputing, arXiv 1604.06174; weights that stream, arXiv 2101.06840 (section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from localdistill.trainers.torch.random_state import random_state, set_random_state

HOST = torch.device("cpu")


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in main memory, from where a GPU can fetch it without waiting."""
    if tensor.device.type != "cuda":
        return tensor.to(HOST)
    held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return held.copy_(tensor, non_blocking=True)


class LayerPass:
    """Stands in for the `forward` of one decoder layer; see `pass_layers`."""

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        self.plain: Callable[..., torch.Tensor] = layer.forward
        self.device = device
        self._layer = layer
        self._frozen: list[tuple[nn.Module, str, nn.Parameter]] = []
        self._anchor = torch.zeros((), requires_grad=True)

    def stream(self) -> None:
        """From now on the frozen weights lie in main memory."""
        for module in self._layer.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None and not weight.requires_grad:
                    held = _moved(weight, HOST, pinned=self.device.type == "cuda")
                    module._parameters[name] = held
                    self._frozen.append((module, name, held))

    @contextmanager
    def weights(self) -> Iterator[None]:
        """The frozen weights are on the device. What a graph holds of them stays there until it is gone."""
        for module, name, held in self._frozen:
            module._parameters[name] = _moved(held, self.device)
        try:
            yield
        finally:
            for module, name, held in self._frozen:
                module._parameters[name] = held

    def __call__(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """hidden_states (B, T, H) -> (B, T, H)."""
        if not torch.is_grad_enabled():
            with self.weights():
                return self.plain(hidden_states, *args, **kwargs)
        passed: Callable[..., torch.Tensor] = _Passed.apply
        return passed(self, self._anchor, hidden_states, lambda given: self.plain(given, *args, **kwargs))


class _Passed(torch.autograd.Function):
    """A layer of which nothing is kept but what it was given."""

    @staticmethod
    def forward(ctx: Any, layer: LayerPass, anchor: torch.Tensor, hidden: torch.Tensor,
                run: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """`anchor` needs a gradient, so that the result does even where `hidden` needs none."""
        ctx.layer, ctx.run, ctx.states = layer, run, random_state(layer.device)
        ctx.kept = on_host(hidden)
        with layer.weights():
            return run(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The layer once more, with the same dropout, and then back."""
        layer: LayerPass = ctx.layer
        given = ctx.kept.to(layer.device, non_blocking=True).detach().requires_grad_()
        now = random_state(layer.device)
        set_random_state(ctx.states, layer.device)
        with torch.enable_grad(), layer.weights():
            result = ctx.run(given)
        set_random_state(now, layer.device)
        torch.autograd.backward(result, grads[0])
        return None, None, given.grad, None


def pass_layers(layers: Any, device: torch.device) -> list[LayerPass]:
    """Let every layer keep nothing but its input, in main memory."""
    passes = []
    for layer in layers:
        layer.gradient_checkpointing = False  # what transformers would recompute is recomputed here
        passes.append(LayerPass(layer, device))
        layer.forward = passes[-1]
    return passes


def _moved(weight: nn.Parameter, device: torch.device, pinned: bool = False) -> nn.Parameter:
    """A weight on a device, quantized ones with all that belongs to them."""
    moved: nn.Parameter = weight.to(device, non_blocking=True)  # type: ignore[assignment]
    if pinned:
        moved.data = moved.data.pin_memory()
    return moved if isinstance(moved, nn.Parameter) else nn.Parameter(moved, requires_grad=False)
