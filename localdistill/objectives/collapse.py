"""The collapse of a model that is pushed away from wrong answers: the right ones become less likely with them. Whoever
learns from wrong answers watches for it; nothing is stopped here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from localdistill.core.losses import ListedLogprobs, Unit
from localdistill.objectives.shapes import row_sums

if TYPE_CHECKING:
    from localdistill.core.losses import Floats

FIRST_STEPS = 10
"""Their mean is what later steps are compared with."""
MEMORY = 0.9
"""How much of the past stays in the running means."""
LOSS = 0.2
"""Nats per token that both sides must have lost."""
RIGHT, WRONG = "logprob_right", "logprob_wrong"
"""Metrics: mean log-probability per trained token of right and of wrong rows."""


def likelihoods(batch: ListedLogprobs) -> dict[str, Floats]:
    """Metric -> (rows,): how likely each row of that side is per trained token."""
    means = row_sums(batch, batch.weight, batch.logprobs[:, 0]) / row_sums(batch, batch.weight)
    return {RIGHT: means[batch.sign > 0], WRONG: means[batch.sign < 0]}


class CollapseWatch:
    """What objectives share that compare right with wrong answers: running means of both sides, and whether the warning
    was given."""

    def __init__(self) -> None:
        self._state = {"steps": 0.0, "first_right": 0.0, "first_wrong": 0.0, "right": 0.0, "wrong": 0.0, "warned": 0.0}

    @property
    def unit(self) -> Unit:
        """A mean over groups, such as pairs."""
        return "group"

    @property
    def signs(self) -> frozenset[int]:
        """Both."""
        return frozenset({1, -1})

    def watch(self, metrics: Mapping[str, float]) -> str:
        """A warning, once, when both sides have lost; a step that saw one side only says nothing."""
        if RIGHT not in metrics or WRONG not in metrics:
            return ""
        state, now = self._state, {"right": metrics[RIGHT], "wrong": metrics[WRONG]}
        state["steps"] += 1
        for side, value in now.items():
            if state["steps"] <= FIRST_STEPS:
                state[f"first_{side}"] += (value - state[f"first_{side}"]) / state["steps"]
                state[side] = state[f"first_{side}"]
            else:
                state[side] = MEMORY * state[side] + (1 - MEMORY) * value
        if state["warned"] or any(state[side] > state[f"first_{side}"] - LOSS for side in now):
            return ""
        state["warned"] = 1.0
        return (f"right answers lose likelihood together with wrong ones ({state['first_right']:.2f} at first, now "
                f"{state['right']:.2f} per token): let wrong ones count less, or train less or more slowly")

    def state(self) -> Mapping[str, float]:
        """What a checkpoint must keep."""
        return dict(self._state)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` said."""
        self._state |= state
