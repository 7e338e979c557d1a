"""The passes of one batch in torch: packed rows through the body, the fused head over trained positions, autograd back.
Must not own an optimizer or a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from localdistill.core.losses import Pseudo
from localdistill.trainers._rows import Dataset
from localdistill.trainers.stepping import BatchStepper, PositionValues, Pulling
from localdistill.trainers.torch.attention import ROUND_LENGTH
from localdistill.trainers.torch.head import FusedHead, HeadGradient, HeadValues
from localdistill.trainers.torch.host_head import HostHead
from localdistill.trainers.torch.random_state import random_state, set_random_state

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

FIRST_SCALE = 2.0 ** 16
"""What gradients are multiplied by in float16, where those of a mean over thousands of tokens would vanish below its
smallest number."""


@dataclass(frozen=True)
class Hidden:
    """What a forward pass leaves."""

    picked: torch.Tensor
    """(N, H) before the trained tokens, with the graph below it."""
    below: torch.Tensor
    """The same without a graph."""
    listed: torch.Tensor
    """(N, K) the tokens themselves, and what else is listed there."""


class Stepper(BatchStepper[Hidden, HeadGradient]):
    """Accumulates the gradient of batches in the parameters of `model`."""

    def __init__(self, model: Any, rows: Dataset, device: torch.device, micro_tokens: int,
                 cap: float | None = None) -> None:
        """`cap`: where the student's logits are bent to stay below a size."""
        super().__init__(rows, micro_tokens)
        self.model, self.device = model, device
        self.scale = FIRST_SCALE if model.dtype == torch.float16 else 1.0
        self.head: FusedHead | HostHead = FusedHead(model.lm_head, cap)

    def forward(self, piece: Sequence[int], learns: bool) -> Hidden:
        """Hidden states before the trained tokens of the rows."""
        packed = self.packed(piece)
        ids, before = (torch.from_numpy(part).long().to(self.device) for part in (packed.ids, packed.places - 1))
        places = torch.cat([torch.arange(self.lengths[row]) for row in piece]).to(self.device)
        more = -len(ids) % ROUND_LENGTH
        ends = [*packed.ends, *([len(ids) + more] if more else [])]
        with torch.set_grad_enabled(learns):
            hidden = self.model.model(input_ids=pad(ids, (0, more))[None], position_ids=pad(places, (0, more))[None],
                                      use_cache=False, ends=ends).last_hidden_state
            picked = hidden[0, before]
        listed = torch.from_numpy(self.rows.listed_tokens(piece)).long().to(self.device)
        return Hidden(picked, picked.detach(), listed)

    def values(self, held: Hidden, pseudo: frozenset[Pseudo]) -> PositionValues:
        """The fused head without a gradient."""
        return _arrays(self.head.values(held.below, held.listed, pseudo))

    def pull(self, held: Hidden, pseudo: frozenset[Pseudo],
             pulling: Pulling) -> tuple[PositionValues, HeadGradient]:
        """The fused head with its gradient."""
        def pulled(part: slice, here: HeadValues) -> HeadValues:
            return self._tensors(pulling(part, lambda: _arrays(here)))

        values, gradient = self.head.pull(held.below, held.listed, pseudo, pulled)
        return _arrays(values), gradient

    def weigh(self, gradient: HeadGradient, by_position: Floats) -> HeadGradient:
        """In place."""
        gradient.scale(self._tensor(by_position))
        return gradient

    def backward(self, held: Hidden, gradient: HeadGradient) -> None:
        """Of the head's own rows, then of the body."""
        self.head.learn(held.below, gradient)
        torch.autograd.backward(held.picked, gradient.hidden)

    def _tensors(self, pull: PositionValues) -> HeadValues:
        return HeadValues(self._tensor(pull.logprobs), None if pull.tail is None else self._tensor(pull.tail),
                          None if pull.mean is None else self._tensor(pull.mean))

    def _tensor(self, figures: Floats) -> torch.Tensor:
        return torch.from_numpy(figures.astype("float32", copy=False)).to(self.device)

    def random_state(self) -> list[torch.Tensor]:
        """Of the CPU, and of the GPU where one computes."""
        return random_state(self.device)

    def set_random_state(self, state: Any) -> None:
        """As `random_state` gave it."""
        set_random_state(state, self.device)


def _arrays(values: HeadValues) -> PositionValues:
    return PositionValues(values.logprobs.cpu().numpy(), *(None if found is None else found.cpu().numpy() for found in (
        values.tail, values.mean, values.first)))
