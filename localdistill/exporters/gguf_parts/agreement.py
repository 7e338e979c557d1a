"""How far two sides that compute the same tokens agree, added up block by block so that few logits are held. Figures
only: which are good enough, `parity` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localdistill.exporters.gguf_parts.divergence import log_probabilities

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass
class Agreement:
    """Over all positions so far."""

    positions: int = 0
    agreed: int = 0
    """Positions where both put the same token first."""
    divergence: float = 0.0
    """Sum of the KL divergences in nats."""
    error: float = 0.0
    """Largest difference in how far the first token is ahead of the second."""

    def add(self, here: npt.NDArray[Any], logits: npt.NDArray[Any]) -> None:
        """`here`: log-probabilities (T, V) of the one side; `logits` (T, V or more) of the other. T may be 0."""
        import numpy as np

        if not len(here):
            return
        there = log_probabilities(logits)[:, :here.shape[1]]
        self.positions += len(here)
        self.agreed += int((here.argmax(-1) == there.argmax(-1)).sum())
        self.divergence += float((np.exp(here) * (here - there)).sum())
        top = np.argpartition(here, -2, axis=-1)[:, -2:]
        gap = np.take_along_axis(here, top, -1) - np.take_along_axis(there, top, -1)
        self.error = max(self.error, float(np.abs(gap[:, 0] - gap[:, 1]).max()))


@dataclass
class Walk:
    """A greedy text of llama.cpp, as the other side reads it: as long as that chooses the same tokens, it would have
    written the same."""

    start: int
    """Where the text begins behind its prompt."""
    written: Sequence[int]
    limit: int
    """Most tokens that llama.cpp could write."""
    margin: float | None = None
    """Where the other side first chooses another token: how far that is ahead of its second choice; None nowhere."""

    @property
    def ended_early(self) -> bool:
        """Whether llama.cpp stopped by itself."""
        return len(self.written) < self.limit

    def see(self, first: int, here: npt.NDArray[Any]) -> None:
        """The other side's log-probabilities (T, V) of the positions from `first` on. Blocks come in order."""
        import numpy as np

        for place in range(max(first, self.start - 1), min(first + len(here), self.start - 1 + len(self.written))):
            row = here[place - first]
            if self.margin is None and int(row.argmax()) != self.written[place - self.start + 1]:
                second, best = np.partition(row, -2)[-2:]
                self.margin = float(best - second)
