"""What gives way when memory runs out, one rung at a time, what costs the least time first. Smaller pieces and
recomputing change no step; what moves to main memory changes none either, but for the output projection, whose
logarithms are then added up in another order. Must not know batches or an optimizer.

On a CPU main memory is the memory that ran out, so that nothing moves there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from localdistill.trainers.torch.layer_pass import HOST, LayerPass, pass_layers
from localdistill.trainers.torch.lora import TagEmbedding


class HostEmbedding(nn.Module):
    """A frozen embedding in main memory: only the rows that a text needs come to the device."""

    def __init__(self, base: nn.Embedding, device: torch.device) -> None:
        super().__init__()
        self.base, self._device = base.to(HOST), device

    @property
    def weight(self) -> torch.Tensor:
        """(V, H)"""
        return self.base.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (B, T) -> (B, T, H) on the device."""
        rows: torch.Tensor = self.base(ids.to(HOST))
        return rows.to(self._device, non_blocking=True)


@dataclass(frozen=True)
class Rung:
    """One thing that can give way."""

    name: str
    """As checkpoints know it."""
    take: Callable[[], str]
    """Give way; what was done, in words, empty where there was nothing left to give."""
    repeats: bool = False
    """It may give way again and again, and is remembered by whoever it belongs to."""


class Ladder:
    """The rungs of one training, and which of them were taken."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = tuple(rungs)
        self.taken: list[str] = []

    def down(self) -> str:
        """Take the next rung that can give way; what was done, in words, empty when nothing is left."""
        for rung in self._rungs:
            if rung.name not in self.taken and (done := rung.take()):
                if not rung.repeats:
                    self.taken.append(rung.name)
                return done
        return ""

    def take(self, names: Sequence[str]) -> None:
        """Take those that a training took before, and that were not taken here."""
        for rung in self._rungs:
            if rung.name in names and rung.name not in self.taken and not rung.repeats and rung.take():
                self.taken.append(rung.name)


def rungs_of(model: Any, device: torch.device, moves: bool, tied: bool, halve: Callable[[], str],
             use_host_head: Callable[[], None]) -> list[Rung]:
    """All that can give way in a training of `model` on `device`. moves: the memory that ran out is not main
    memory, so that parts may move there. tied: the output projection is the embedding. halve: make micro-batches
    smaller, in words; empty when they are single rows. use_host_head: compute the output projection from main memory
    from now on, for there it lies."""
    passes: list[LayerPass] = []

    def recompute() -> str:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        return "single rows are too long, so activations are now recomputed"

    def embed_from_host() -> str:
        _embed_from_host(model, device)
        return "the embedding now lies in main memory"

    def keep_on_host() -> str:
        passes.extend(pass_layers(model.model.layers, device))
        return "what the layers are given is now kept in main memory"

    def head_from_host() -> str:
        if tied:
            _embed_from_host(model, device)
        head = model.lm_head
        getattr(head, "base", head).to(HOST)
        use_host_head()
        return "the output projection now comes from main memory, in slices"

    def stream() -> str:
        for one in passes:
            one.stream()
        return "the frozen layers now come from main memory, one by one"

    smaller = [Rung("halve", halve, repeats=True), Rung("recompute", recompute)]
    if not moves:
        return smaller
    embedding = [] if tied else [Rung("host_embedding", embed_from_host)]
    return [*embedding, *smaller, Rung("host_activations", keep_on_host), Rung("host_head", head_from_host),
            Rung("stream", stream)]


def _embed_from_host(model: Any, device: torch.device) -> None:
    owner, name = model.model, "embed_tokens"
    if isinstance(owner.embed_tokens, TagEmbedding):
        owner, name = owner.embed_tokens, "base"
    setattr(owner, name, HostEmbedding(getattr(owner, name), device))
