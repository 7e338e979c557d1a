"""The fused output projection: log-probabilities of listed tokens and the gradient of a weighted sum of them, in one
pass that never holds more than a chunk of logits. Must not know an objective, nor the layers below.

Sources: the gradient of the softmax; Cut Your Losses in Large-Vocabulary Language Models (arXiv 2411.09009) for why
logits should not be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from localdistill.core.borders import BORDERS
from localdistill.core.losses import Pseudo
from localdistill.trainers.torch.lora import TagHead

LEAST_TAIL = -30.0
"""Log-probability below which all tokens that are not listed count as gone: nothing pulls on them any more."""


@dataclass
class HeadValues:
    """float32 log-probabilities at N positions, on the model's device."""

    logprobs: torch.Tensor
    """(N, K) of the listed tokens."""
    tail: torch.Tensor | None = None
    """(N,) of all others together."""
    mean: torch.Tensor | None = None
    """(N,) mean over the vocabulary."""
    first: torch.Tensor | None = None
    """bool (N,): no token is ranked above the row's own; None where nobody counts them."""

    def at(self, part: slice) -> HeadValues:
        """Those of some of the positions."""
        return HeadValues(self.logprobs[part], *(None if found is None else found[part]
                                                 for found in (self.tail, self.mean, self.first)))


Pull = HeadValues
"""How strongly each log-probability is pulled: float32 factors in the places of the values."""
Pulling = Callable[[slice, HeadValues], Pull]
"""The pull at some of the positions, given their values; local where it reads them, known where it does not."""


@dataclass
class HeadGradient:
    """What a pull comes to below the head."""

    hidden: torch.Tensor
    """(N, H)"""
    tags: torch.Tensor | None = None
    """(N, tags) float32 by the logits of the trained rows, where there are any."""

    def scale(self, factor: torch.Tensor) -> None:
        """Multiply by (N,): the pull of every position was known up to it."""
        self.hidden.mul_(factor.to(self.hidden.dtype).unsqueeze(-1))
        if self.tags is not None:
            self.tags.mul_(factor.unsqueeze(-1))


class OutputHead:
    """The output projection of one model, wherever it lies."""

    def __init__(self, head: Any, cap: float | None = None) -> None:
        """`cap`: where logits are bent to stay below a size."""
        self._cap = cap
        self._tags = head if isinstance(head, TagHead) else None
        self._weight: torch.Tensor = self._tags.base.weight if self._tags is not None else head.weight

    @torch.no_grad()
    def learn(self, hidden: torch.Tensor, gradient: HeadGradient) -> None:
        """Add to the gradient of the head's own trained rows."""
        if self._tags is None or gradient.tags is None:
            return
        rows = self._tags.rows
        added = (gradient.tags.to(hidden.dtype).t() @ hidden).to(rows.dtype)
        rows.grad = added if rows.grad is None else rows.grad + added


class FusedHead(OutputHead):
    """An output projection on the device."""

    def __init__(self, head: Any, cap: float | None = None) -> None:
        """`cap`: where logits are bent to stay below a size."""
        super().__init__(head, cap)
        vocabulary, at_once = len(self._weight), self._weight.element_size()
        self.chunk_rows = max(BORDERS.logit_rows, BORDERS.logit_bytes // (at_once * vocabulary))
        # On a CPU what a few rows take stays in its caches: a third of the time of going over all rows at each step.
        cached = max(1, BORDERS.softmax_bytes // (4 * vocabulary))
        self._softmax_rows = min(self.chunk_rows, cached) if self._weight.device.type == "cpu" else self.chunk_rows

    @torch.no_grad()
    def values(self, hidden: torch.Tensor, listed: torch.Tensor, pseudo: frozenset[Pseudo]) -> HeadValues:
        """hidden (N, H), listed (N, K) token ids -> their values."""
        return self._pass(hidden, listed, pseudo, None)[0]

    @torch.no_grad()
    def pull(self, hidden: torch.Tensor, listed: torch.Tensor, pseudo: frozenset[Pseudo],
             pulling: Pulling) -> tuple[HeadValues, HeadGradient]:
        """The values, and the gradient of the sum of values times pulls."""
        values, gradient = self._pass(hidden, listed, pseudo, pulling)
        assert gradient is not None
        return values, gradient

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, V) in the precision of the weights, before they are bent."""
        logits = linear(hidden, self._weight)
        if self._tags is not None:
            own = linear(hidden, self._tags.rows.to(hidden.dtype))
            logits.index_copy_(-1, self._tags.ids, own.to(logits.dtype))
        return logits

    def _pass(self, hidden: torch.Tensor, listed: torch.Tensor, pseudo: frozenset[Pseudo],
              pulling: Pulling | None) -> tuple[HeadValues, HeadGradient | None]:
        count, device = len(hidden), hidden.device
        values = HeadValues(torch.empty(listed.shape, device=device),
                            torch.empty(count, device=device) if "tail" in pseudo else None,
                            torch.empty(count, device=device) if "mean" in pseudo else None,
                            None if pulling is None else torch.empty(count, dtype=torch.bool, device=device))
        gradient = None
        if pulling is not None:
            tags = None if self._tags is None else torch.empty(count, len(self._tags.ids), device=device)
            gradient = HeadGradient(torch.empty_like(hidden), tags)
        powers = torch.empty(min(count, self._softmax_rows), len(self._weight), device=device)
        for part in parts_of(0, count, self.chunk_rows):
            logits = self._logits(hidden[part])
            for few in parts_of(part.start, part.stop, self._softmax_rows):
                some = logits[few.start - part.start:few.stop - part.start]
                self._softmax(some, powers[:len(some)], listed[few], values.at(few),
                              None if pulling is None else partial(pulling, few))
            if gradient is not None:
                self._below(logits, gradient, part)
        return values, gradient

    def _softmax(self, logits: torch.Tensor, powers: torch.Tensor, listed: torch.Tensor, values: HeadValues,
                 pulling: Callable[[HeadValues], Pull] | None) -> None:
        """Take the values at a few positions from (n, V); where they are pulled, what that comes to by the logits
        stands in place of these then. powers (n, V) float32: overwritten."""
        seen, slope = logits, None
        if self._cap is not None:
            bent = logits.float().div_(self._cap).tanh_()
            slope = 1 - bent.square()
            seen = bent.mul_(self._cap)
        total = _fill(values, seen, listed, powers)
        if pulling is None:
            return
        pull = pulling(values)
        by_listed, pulled = pulled_shares(values, pull)
        by_logits = torch.mul(powers, -pulled.unsqueeze(-1) / total, out=logits if slope is None else powers)
        by_logits.scatter_add_(-1, listed, by_listed.to(by_logits.dtype))
        if pull.mean is not None:
            by_logits.add_((pull.mean / powers.shape[-1]).to(by_logits.dtype).unsqueeze(-1))
        if slope is not None:
            logits.copy_(by_logits.mul_(slope))

    def _below(self, by_logits: torch.Tensor, gradient: HeadGradient, part: slice) -> None:
        """Carry (n, V) by the logits on to the positions of `part`. Overwrites `by_logits`."""
        tags = self._tags
        if tags is None or gradient.tags is None:
            torch.mm(by_logits, self._weight, out=gradient.hidden[part])
            return
        own = by_logits.index_select(-1, tags.ids)
        gradient.tags[part] = own
        by_logits.index_fill_(-1, tags.ids, 0.0)
        below = by_logits @ self._weight
        gradient.hidden[part] = below.add_(own @ tags.rows.to(own.dtype))


def parts_of(start: int, end: int, size: int) -> Iterator[slice]:
    """So many positions at once, one part after the other."""
    for first in range(start, end, size):
        yield slice(first, min(end, first + size))


def _fill(values: HeadValues, logits: torch.Tensor, listed: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
    """Take the values at n positions from (n, V). What they were made of, for the gradient: in `powers` those of e,
    each through the largest of its row, and their sums (n, 1)."""
    largest = logits.amax(-1, keepdim=True).float()
    torch.sub(logits, largest, out=powers).exp_()
    total = powers.sum(-1, keepdim=True)
    whole = largest + total.log()
    values.logprobs.copy_(logits.gather(-1, listed)).sub_(whole)
    if values.first is not None:
        values.first.copy_((logits.gather(-1, listed[:, :1]) >= largest).squeeze(-1))
    if values.mean is not None:
        values.mean.copy_(logits.mean(-1, dtype=torch.float32)).sub_(whole.squeeze(-1))
    if values.tail is not None:
        own = powers.gather(-1, listed)
        powers.scatter_(-1, listed, 0.0)
        values.tail.copy_(powers.sum(-1)).div_(total.squeeze(-1)).log_().clamp_(min=LEAST_TAIL)
        powers.scatter_(-1, listed, own)
    return total


def pulled_shares(values: HeadValues, pull: Pull) -> tuple[torch.Tensor, torch.Tensor]:
    """What a pull comes to by the logits, beside what its mean gives every token alike: the probabilities times minus
    the second (N,), and the first (N, K) at the listed tokens.

    With p the probabilities, S those of the listed tokens together and T = 1 - S: a listed log-probability gives
    (its own token) - p, the mean 1/V - p, and the log of T gives p / T - p outside the list and -p inside it.
    """
    by_listed = pull.logprobs
    pulled = by_listed.sum(-1)
    if pull.mean is not None:
        pulled = pulled + pull.mean
    if pull.tail is not None and values.tail is not None:
        by_tail = torch.where(values.tail > LEAST_TAIL, pull.tail, 0.0)
        outside = by_tail / values.tail.exp()
        by_listed = by_listed - outside.unsqueeze(-1) * values.logprobs.exp()
        pulled = pulled + by_tail - outside
    return by_listed, pulled
