"""The KV cache of continuous batching: a slot for every row that is being written, and beginnings that many rows share
and that are read and held once. An attention function, registered with transformers, writes into it and reads from it,
so that models stay as they are. Must not know tokens, requests or samplers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F

NAME = "localdistill_slots"
_GRAIN = 64
"""Slots grow by multiples of so many tokens."""
Tensors = dict[int, torch.Tensor]
"""By the number of a layer."""


@dataclass(eq=False)
class SharedPrefix:
    """Tokens at the start of several rows, and their keys and values (heads, P, width) once they were read."""

    ids: tuple[int, ...]
    keys: Tensors = field(default_factory=dict)
    values: Tensors = field(default_factory=dict)
    is_read: bool = False


@dataclass
class Prefill:
    """One forward pass that reads the T next tokens of rows whose slots are empty, all behind one beginning; or, with
    `into`, that beginning itself, in one row."""

    slots: torch.Tensor
    """(n,): where each row lies."""
    behind: SharedPrefix | None
    into: SharedPrefix | None = None
    masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)


@dataclass
class DecodeStep:
    """One forward pass that adds one token to each of the first n slots."""

    lengths: torch.Tensor
    """(n,): tokens that each slot holds, without the new one."""
    longest: int
    """The most that a slot holds, with the new one."""
    before: torch.Tensor
    """(n,): tokens of each row's beginning."""
    groups: Sequence[tuple[SharedPrefix, torch.Tensor | None]]
    """The beginnings of the rows, and which rows begin with each; None for all."""
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)
    rows: torch.Tensor = field(init=False)
    """(n,): 0, 1, 2 ..."""
    widest: int = field(init=False)
    """Tokens of the longest beginning."""

    def __post_init__(self) -> None:
        self.rows = torch.arange(len(self.lengths), device=self.lengths.device)
        self.widest = max((len(beginning.ids) for beginning, _ in self.groups), default=0)


def whole_grains(tokens: int) -> int:
    """The capacity of a slot for so many tokens."""
    return -(-tokens // _GRAIN) * _GRAIN


class SlotCache:
    """Keys and values (S, heads, C, width) of each layer. Layers are allocated when their first tokens come, filled
    with zeros: what is masked must still be a number."""

    def __init__(self) -> None:
        self.rows = 0
        self.capacity = 0
        """Tokens that a slot can hold."""
        self._keys: Tensors = {}
        self._values: Tensors = {}

    def shape(self, rows: int, capacity: int, kept: int, longest: int) -> None:
        """Make room for `rows` of at most `capacity` tokens; the first `kept` slots keep their first `longest`. Where
        memory runs out on the way, the slots can only be cleared."""
        self.rows, self.capacity = rows, capacity
        for held in (self._keys, self._values):
            for layer, old in held.items():
                new = old.new_zeros(rows, old.shape[1], capacity, old.shape[3])
                new[:kept, :, :longest] = old[:kept, :, :longest]
                held[layer] = new
                del old

    def clear(self) -> None:
        """Free all slots."""
        self.rows = self.capacity = 0
        self._keys, self._values = {}, {}

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first `tokens` of one slot, in another too."""
        for held in (self._keys, self._values):
            for tensor in held.values():
                tensor[target, :, :tokens] = tensor[source, :, :tokens]

    def attend(self, work: Prefill | DecodeStep, layer: int, query: torch.Tensor, key: torch.Tensor,
               value: torch.Tensor, scaling: float, window: int | None, cap: float | None) -> torch.Tensor:
        """The output of attention (n, T, heads, width) for query (n, heads, T, width) and new key and value (n, kv
        heads, T, width), which are kept."""
        if isinstance(work, Prefill):
            return self._read(work, layer, query, key, value, scaling, window, cap).transpose(1, 2)
        return self._step(work, layer, query, key, value, scaling, window, cap).unsqueeze(1)

    def _held(self, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self._keys:
            shape = self.rows, like.shape[1], self.capacity, like.shape[3]
            self._keys[layer], self._values[layer] = like.new_zeros(shape), like.new_zeros(shape)
        return self._keys[layer], self._values[layer]

    def _read(self, work: Prefill, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
              scaling: float, window: int | None, cap: float | None) -> torch.Tensor:
        if work.into is not None:
            work.into.keys[layer], work.into.values[layer] = key[0].contiguous(), value[0].contiguous()
        else:
            keys, values = self._held(layer, key)
            keys[work.slots, :, :key.shape[2]] = key
            values[work.slots, :, :key.shape[2]] = value
        if work.behind is not None:
            key, value = (torch.cat([first[layer].expand(len(new), -1, -1, -1), new], dim=2)
                          for first, new in ((work.behind.keys, key), (work.behind.values, value)))
        if window not in work.masks:
            work.masks[window] = _causal(query.shape[2], key.shape[2], window, query.device)
        mask = work.masks[window]
        if cap is None:
            grouped = query.shape[1] != key.shape[1]
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None,
                                                  scale=scaling, enable_gqa=grouped)
        heads = query.reshape(len(query), key.shape[1], -1, *query.shape[2:])
        scores = heads @ (key * scaling).unsqueeze(2).transpose(-1, -2)
        scores = torch.tanh(scores.float() / cap) * cap
        seen = mask if mask is not None else _seen(query.shape[2], key.shape[2], None, query.device)
        shares = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(value.dtype)
        return (shares @ value.unsqueeze(2)).flatten(1, 2)

    def _step(self, work: DecodeStep, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
              scaling: float, window: int | None, cap: float | None) -> torch.Tensor:
        """One softmax over two products: with what each row holds alone, and with what rows share."""
        keys, values = self._held(layer, key)
        n, kv_heads, _, width = key.shape
        keys[work.rows, :, work.lengths], values[work.rows, :, work.lengths] = key[:, :, 0], value[:, :, 0]
        keys, values = keys[:n, :, :work.longest], values[:n, :, :work.longest]
        queries = (query * scaling).view(n, kv_heads, -1, width)
        own = queries @ keys.transpose(-1, -2)
        before = work.widest
        scores = own.new_empty(*own.shape[:3], before + work.longest)
        scores[..., before:] = own
        by_head = queries.transpose(0, 1)
        for beginning, chosen in work.groups:
            asked = by_head if chosen is None else by_head[:, chosen]
            found = asked.flatten(1, 2) @ beginning.keys[layer].transpose(-1, -2)
            found = found.view(kv_heads, -1, own.shape[2], found.shape[-1]).transpose(0, 1)
            if chosen is None:
                scores[..., :before] = found
            else:
                scores[chosen, :, :, :found.shape[-1]] = found
        if cap is not None:
            scores = torch.tanh(scores / cap) * cap
        if window not in work.masks:
            work.masks[window] = _visible(work, window)
        shares = scores.masked_fill(work.masks[window], -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
        output = shares[..., before:] @ values
        for beginning, chosen in work.groups:
            taken = shares[..., :len(beginning.ids)]
            taken = (taken if chosen is None else taken[chosen]).transpose(0, 1)
            found = taken.flatten(1, 2) @ beginning.values[layer]
            found = found.view(kv_heads, -1, own.shape[2], found.shape[-1]).transpose(0, 1)
            if chosen is None:
                output += found
            else:
                output[chosen] += found
        return output.flatten(1, 2)


def _seen(new: int, all_: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(new, all): whether each of the last `new` places sees each of all."""
    place = torch.arange(all_ - new, all_, device=device).unsqueeze(1)
    other = torch.arange(all_, device=device)
    seen = other <= place
    return seen if window is None else seen & (place - other < window)


def _causal(new: int, all_: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """The same, or None where that is plain causal attention."""
    if new == all_ and (window is None or window >= all_):
        return None
    return _seen(new, all_, window, device)


def _visible(work: DecodeStep, window: int | None) -> torch.Tensor:
    """(n, 1, 1, P + L): which scores do not count; beginnings are padded behind, slots too."""
    device = work.lengths.device
    shared, own = torch.arange(work.widest, device=device), torch.arange(work.longest, device=device)
    length, before = work.lengths.unsqueeze(1), work.before.unsqueeze(1)
    hidden_shared, hidden_own = shared >= before, own > length
    if window is not None:
        hidden_shared = hidden_shared | (before + length - shared >= window)
        hidden_own = hidden_own | (length - own >= window)
    return torch.cat([hidden_shared, hidden_own], dim=1)[:, None, None]


def _attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
               scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None,
               slots: SlotCache | None = None, work: Prefill | DecodeStep | None = None, **_: Any) -> tuple[Any, None]:
    """What transformers calls instead of its own attention. Shapes as of `SlotCache.attend`."""
    assert slots is not None and work is not None, "forward passes under this name bring their slots"
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return slots.attend(work, module.layer_idx, query, key, value, scale, sliding_window, softcap), None


@contextmanager
def slot_attention(model: Any) -> Iterator[None]:
    """While it lasts, `model` attends through the slots that its forward passes bring."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    config, usual = model.config, model.config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
