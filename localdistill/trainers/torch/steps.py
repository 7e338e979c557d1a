"""The gradient of one batch in torch, whatever its micro-batches are: the body forward, the objective over the fused
head, the body backward. Must not own an optimizer or a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from localdistill.core.losses import ListedLogprobs, Loss, Pseudo, Slope
from localdistill.trainers._batches import Portion, micro_batches
from localdistill.trainers._rows import Dataset
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.torch.head import FusedHead, HeadGradient, HeadValues, Pulling

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

HALF_PRECISION_SCALE = 1024.0
"""float16 gradients of a mean over thousands of tokens would vanish below its smallest number without it."""


class Stepper:
    """Accumulates the gradient of batches in the parameters of `model`."""

    def __init__(self, model: Any, rows: Dataset, device: torch.device, micro_tokens: int) -> None:
        self.model, self.rows, self.device, self.micro_tokens = model, rows, device, micro_tokens
        self.lengths = rows.lengths
        self.scale = HALF_PRECISION_SCALE if model.dtype == torch.float16 else 1.0
        """What gradients are multiplied by."""
        self.head = FusedHead(model.lm_head)
        self._largest = 0
        self._longest = 0

    def accumulate(self, work: StepWork) -> StepNumbers:
        """Add the gradient of `scale` x the mean loss over the batch to the parameters."""
        units = work.units
        factor, total, metrics = self.scale / units, 0.0, dict[str, tuple[float, float]]()
        for portion in self.portions(work):
            loss = self._split(portion, work, factor) if portion.is_split else self._whole(portion.rows, work, factor)
            total += loss.total
            for name, (value, count) in loss.metrics.items():
                before = metrics.get(name, (0.0, 0.0))
                metrics[name] = before[0] + value, before[1] + count
        tokens = sum(self.lengths[row] for row in work.batch)
        return StepNumbers(total / units, tokens, self._count(work.batch), metrics)

    def portions(self, work: StepWork) -> list[Portion]:
        """The batch cut for the memory; the largest piece is remembered, for `halve`."""
        # A loss that counts trained weight takes any rows; all else that can be counted needs whole groups.
        singly = work.objective.grouping == "none" and work.objective.unit == "weight"
        together = None if singly else self.rows.groups
        portions = micro_batches(work.batch, self.lengths, self.micro_tokens, together)
        self._note(piece for portion in portions for piece in portion.pieces)
        return portions

    def logprobs(self, batch: Sequence[int]) -> list[Floats]:
        """float32 (n, 1) for each row: log-probabilities of its own trained tokens."""
        found: dict[int, Floats] = {}
        portions = micro_batches(batch, self.lengths, self.micro_tokens)
        self._note(portion.rows for portion in portions)
        for portion in portions:
            values = self._values(portion.rows, frozenset())
            ends = np.cumsum([len(self.rows.trained(row)) for row in portion.rows])[:-1]
            found |= zip(portion.rows, np.split(values.logprobs.cpu().numpy(), ends), strict=True)
        return [found[row] for row in batch]

    def halve(self) -> bool:
        """Make micro-batches half as large as the largest that was cut last; False when that is a single row."""
        if self._largest <= self._longest:
            return False
        self.micro_tokens = max(self._longest, self._largest // 2)
        return True

    def _note(self, pieces: Iterable[Sequence[int]]) -> None:
        sizes = [(len(piece) * self.lengths[piece[0]], self.lengths[piece[0]]) for piece in pieces]
        self._largest = max(size for size, _ in sizes)
        self._longest = max(length for _, length in sizes)

    def _whole(self, piece: Sequence[int], work: StepWork, factor: float) -> Loss:
        """Forward, loss and backward of whole groups at once."""
        picked, listed = self._forward(piece)
        below = picked.detach()
        loss, gradient = self._loss(piece, below, listed, work, factor)
        self.head.learn(below, gradient)
        torch.autograd.backward(picked, gradient.hidden)
        return loss

    def _loss(self, piece: Sequence[int], below: torch.Tensor, listed: torch.Tensor, work: StepWork,
              factor: float) -> tuple[Loss, HeadGradient]:
        """The loss of rows and `factor` times its gradient below the head: hidden (N, H), listed (N, K)."""
        objective, pseudo = work.objective, work.objective.pseudo
        told = work.listed(piece, np.zeros(listed.shape, np.float32))
        known = objective.known(told)
        if known is not None:
            values, gradient = self.head.pull(below, listed, pseudo, _given(self._pull(known, factor)))
            loss = objective.loss(_with(told, values))
            if loss.by_row is not None:
                gradient.scale(self._tensor(loss.by_row[told.row]))
            return loss, gradient
        if objective.shape == "position":
            losses: list[Loss] = []

            def local(part: slice, values: HeadValues) -> HeadValues:
                losses.append(objective.loss(_with(_part(told, part), values)))
                return self._pull(losses[-1].slope, factor)

            _, gradient = self.head.pull(below, listed, pseudo, local)
            return _sum(losses), gradient
        loss = objective.loss(_with(told, self.head.values(below, listed, pseudo)))
        return loss, self.head.pull(below, listed, pseudo, _given(self._pull(loss.slope, factor)))[1]

    def _split(self, portion: Portion, work: StepWork, factor: float) -> Loss:
        """A group that is too large for one piece: all values first, without gradient, unless the slope is known
        without them; then piece by piece."""
        objective = work.objective
        told = work.listed(portion.rows, np.zeros((self._count(portion.rows), 1), np.float32))
        if objective.shape == "constant" and (slope := objective.known(told)) is not None:
            return objective.loss(_with(told, self._pull_pieces(portion, work, slope, factor)))
        states = self.random_state()
        found = _joined([self._values(piece, objective.pseudo) for piece in portion.pieces])
        self.set_random_state(states)  # the same dropout again
        loss = objective.loss(_with(told, found))
        self._pull_pieces(portion, work, loss.slope, factor)
        return loss

    def _pull_pieces(self, portion: Portion, work: StepWork, slope: Slope, factor: float) -> HeadValues:
        """Forward and backward piece by piece, with the slope of all of them known; the values of all of them."""
        whole, start, found = self._pull(slope, factor), 0, []
        for piece in portion.pieces:
            picked, listed = self._forward(piece)
            below, part = picked.detach(), slice(start, start + len(picked))
            values, gradient = self.head.pull(below, listed, work.objective.pseudo, _given(whole.at(part)))
            self.head.learn(below, gradient)
            torch.autograd.backward(picked, gradient.hidden)
            found.append(values)
            start = part.stop
        return _joined(found)

    def _count(self, rows: Sequence[int]) -> int:
        """Trained tokens of some rows."""
        return sum(len(self.rows.trained(row)) for row in rows)

    @torch.no_grad()
    def _values(self, piece: Sequence[int], pseudo: frozenset[Pseudo]) -> HeadValues:
        hidden, listed = self._forward(piece)
        return self.head.values(hidden, listed, pseudo)

    def _forward(self, piece: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (N, H) before the trained tokens of the rows, and the listed tokens (N, 1) there."""
        ids, at = self._collate(piece)
        # Right padding needs no mask: under causal attention nothing that is trained can see what follows it.
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[at[0], at[1] - 1], ids[at].unsqueeze(-1)

    def _collate(self, piece: Sequence[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """ids (B, T) of the rows, right-padded with zeros, and row and place (N,) of every trained token."""
        ids = torch.zeros(len(piece), max(self.lengths[row] for row in piece), dtype=torch.long)
        places = [self.rows.trained(row) for row in piece]
        for number, row in enumerate(piece):
            own = self.rows.ids[self.rows.starts[row]:self.rows.starts[row + 1]]
            ids[number, :len(own)] = torch.from_numpy(own)
        rows = np.repeat(np.arange(len(piece)), [len(at) for at in places])
        return ids.to(self.device), (torch.from_numpy(rows).to(self.device),
                                     torch.from_numpy(np.concatenate(places)).to(self.device))

    def _pull(self, slope: Slope, factor: float) -> HeadValues:
        """`factor` times a slope."""
        return HeadValues(self._tensor(slope.by_logprob * factor),
                          None if slope.by_tail is None else self._tensor(slope.by_tail * factor),
                          None if slope.by_mean is None else self._tensor(slope.by_mean * factor))

    def _tensor(self, figures: Floats) -> torch.Tensor:
        return torch.from_numpy(np.asarray(figures, np.float32)).to(self.device)

    def random_state(self) -> list[torch.Tensor]:
        """The state of the random numbers that dropout draws."""
        states = [torch.get_rng_state()]
        return states + ([torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [])

    def set_random_state(self, states: Sequence[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda" and len(states) > 1:  # one that was written on a CPU holds no more
            torch.cuda.set_rng_state(states[1], self.device)


def _given(pull: HeadValues) -> Pulling:
    """A pull that does not depend on the values."""
    return lambda part, values: pull.at(part)


def _joined(found: Sequence[HeadValues]) -> HeadValues:
    """The values of several pieces, one after the other."""
    tail, mean = ([values for values in column if values is not None] for column in (
        [one.tail for one in found], [one.mean for one in found]))
    return HeadValues(torch.cat([one.logprobs for one in found]), torch.cat(tail) if tail else None,
                      torch.cat(mean) if mean else None)


def _with(told: ListedLogprobs, values: HeadValues) -> ListedLogprobs:
    """What an objective is told, with the log-probabilities that were found."""
    tail, mean = (None if found is None else found.cpu().numpy() for found in (values.tail, values.mean))
    return replace(told, logprobs=values.logprobs.cpu().numpy(), tail=tail, mean=mean)


def _part(told: ListedLogprobs, part: slice) -> ListedLogprobs:
    """Some of the positions."""
    return replace(told, logprobs=told.logprobs[part], weight=told.weight[part], row=told.row[part],
                   stored={name: column[part] for name, column in told.stored.items()})


def _sum(losses: Sequence[Loss]) -> Loss:
    """Losses of parts, added up; their slopes were used and are gone."""
    metrics: Mapping[str, tuple[float, float]] = {
        name: (sum(loss.metrics[name][0] for loss in losses), sum(loss.metrics[name][1] for loss in losses))
        for name in losses[0].metrics}
    return Loss(sum(loss.total for loss in losses), losses[-1].slope, metrics=metrics)
