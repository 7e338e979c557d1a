"""How many of the trained tokens the student ranks first, epoch by epoch: the sign that repeating rows teaches nothing
more. Must not decide anything.

Source: https://arxiv.org/abs/2602.11149 (few rows seen often beat many seen once, and stop to once the tokens are
known)."""

from __future__ import annotations

from collections.abc import Sequence


class TokenAccuracy:
    """The count of one training so far."""

    def __init__(self) -> None:
        self._epochs: list[tuple[int, int]] = []
        """Tokens ranked first and tokens seen, of every epoch."""

    def take(self, epoch: int, ranked_first: int, tokens: int) -> None:
        """One step of the 0-based `epoch`."""
        self._epochs += [(0, 0)] * (epoch + 1 - len(self._epochs))
        before = self._epochs[epoch]
        self._epochs[epoch] = before[0] + ranked_first, before[1] + tokens

    def by_epoch(self) -> tuple[float, ...]:
        """The share of every epoch that saw such tokens, 0..1; the last one may be under way."""
        return tuple(first / tokens for first, tokens in self._epochs if tokens)

    def state(self) -> list[tuple[int, int]]:
        """What a checkpoint remembers of it."""
        return list(self._epochs)

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Go on from what a checkpoint remembers."""
        self._epochs = [(int(first), int(tokens)) for first, tokens in state]
