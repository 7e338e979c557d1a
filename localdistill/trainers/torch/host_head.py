"""The output projection when it lies in main memory: it comes to the device in slices of the vocabulary, once for the
values and once more for their gradient. Equal to the head that lies whole on the device within rounding. Must not know
an objective, nor the layers below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from localdistill.core.borders import BORDERS
from localdistill.core.losses import Pseudo
from localdistill.trainers.torch.head import (
    LEAST_TAIL,
    HeadGradient,
    HeadValues,
    OutputHead,
    Pulling,
    parts_of,
    pulled_shares,
)


@dataclass(frozen=True)
class _Slice:
    """Some rows of the projection, on the device."""

    first: int
    weight: torch.Tensor
    """(v, H)"""
    tags: torch.Tensor
    """Which of the trained rows lie in it, as places among them."""
    places: torch.Tensor
    """Where they lie in it."""

    def local(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Places of token ids in it, whatever they are outside; and which of them lie inside."""
        places = tokens - self.first
        inside = (places >= 0) & (places < len(self.weight))
        return places.clamp(0, len(self.weight) - 1), inside


class HostHead(OutputHead):
    """An output projection in main memory."""

    def __init__(self, head: Any, device: torch.device, cap: float | None = None) -> None:
        """`cap`: where logits are bent to stay below a size."""
        super().__init__(head, cap)
        self._device = device
        self._tag_ids = torch.empty(0, dtype=torch.long) if self._tags is None else self._tags.ids.cpu()
        self.slice_rows = max(1, BORDERS.head_slice_bytes // (self._weight.shape[1] * self._weight.element_size()))

    @torch.no_grad()
    def values(self, hidden: torch.Tensor, listed: torch.Tensor, pseudo: frozenset[Pseudo]) -> HeadValues:
        """hidden (N, H), listed (N, K) token ids -> their values."""
        return self._values(hidden, listed, pseudo)[0]

    @torch.no_grad()
    def pull(self, hidden: torch.Tensor, listed: torch.Tensor, pseudo: frozenset[Pseudo],
             pulling: Pulling) -> tuple[HeadValues, HeadGradient]:
        """The values, and the gradient of the sum of values times pulls."""
        values, norm = self._values(hidden, listed, pseudo)
        pull = pulling(slice(0, len(hidden)), values)
        by_listed, pulled = pulled_shares(values, pull)
        spread = None if pull.mean is None else pull.mean / len(self._weight)
        below = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        own = None if self._tags is None else torch.zeros(len(hidden), len(self._tags.ids), device=hidden.device)
        for piece in self._slices():
            for part in parts_of(0, len(hidden), BORDERS.head_positions):
                logits, bend = self._logits(hidden[part], piece)
                by_logits = logits.sub_(norm[part, None]).exp_()
                by_logits.mul_(-pulled[part, None])
                places, inside = piece.local(listed[part])
                by_logits.scatter_add_(-1, places, torch.where(inside, by_listed[part], 0.0))
                if spread is not None:
                    by_logits.add_(spread[part, None])
                if bend is not None:
                    by_logits.mul_(bend)
                if own is not None and self._tags is not None and len(piece.tags):
                    rows = self._tags.rows[piece.tags].to(hidden.dtype)
                    at_tags = by_logits.index_select(-1, piece.places)
                    own[part, piece.tags] = at_tags
                    by_logits.index_fill_(-1, piece.places, 0.0)
                    below[part] += (at_tags.to(hidden.dtype) @ rows).float()
                below[part] += (by_logits.to(piece.weight.dtype) @ piece.weight).float()
        return values, HeadGradient(below.to(hidden.dtype), own)

    def _values(self, hidden: torch.Tensor, listed: torch.Tensor,
                pseudo: frozenset[Pseudo]) -> tuple[HeadValues, torch.Tensor]:
        """The values, and the logarithm of the sum over the vocabulary (N,)."""
        count, device = len(hidden), hidden.device
        whole = torch.full((count,), float("-inf"), device=device)
        others = torch.full((count,), float("-inf"), device=device) if "tail" in pseudo else None
        sums = torch.zeros(count, device=device) if "mean" in pseudo else None
        found = torch.zeros(listed.shape, device=device)
        top = torch.full((count,), float("-inf"), device=device)
        for piece in self._slices():
            for part in parts_of(0, count, BORDERS.head_positions):
                logits, _ = self._logits(hidden[part], piece)
                places, inside = piece.local(listed[part])
                found[part] += torch.where(inside, logits.gather(-1, places), 0.0)
                whole[part] = torch.logaddexp(whole[part], logits.logsumexp(-1))
                top[part] = torch.maximum(top[part], logits.amax(-1))
                if sums is not None:
                    sums[part] += logits.sum(-1)
                if others is not None:
                    gone = torch.zeros_like(logits).scatter_add_(-1, places, inside.float()) > 0
                    others[part] = torch.logaddexp(others[part], logits.masked_fill_(gone, float("-inf")).logsumexp(-1))
        return HeadValues(found - whole[:, None],
                          None if others is None else (others - whole).clamp_(min=LEAST_TAIL),
                          None if sums is None else sums / len(self._weight) - whole,
                          found[:, 0] >= top), whole

    def _slices(self) -> Iterator[_Slice]:
        for first in range(0, len(self._weight), self.slice_rows):
            weight = self._weight[first:first + self.slice_rows].to(self._device, non_blocking=True)
            tags = torch.nonzero((self._tag_ids >= first) & (self._tag_ids < first + len(weight)))[:, 0]
            yield _Slice(first, weight, *(part.to(self._device) for part in (tags, self._tag_ids[tags] - first)))

    def _logits(self, hidden: torch.Tensor, piece: _Slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """float32 (n, v), and what bending them does to a gradient."""
        logits = linear(hidden, piece.weight)
        if self._tags is not None and len(piece.tags):
            own = linear(hidden, self._tags.rows[piece.tags].to(hidden.dtype))
            logits.index_copy_(-1, piece.places, own.to(logits.dtype))
        logits = logits.float()
        if self._cap is None:
            return logits, None
        bent = logits.div_(self._cap).tanh_()
        return bent * self._cap, 1 - bent.square()
