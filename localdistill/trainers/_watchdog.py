"""When a training has gone astray: a number that is not finite, or a loss that stays far above where it was. Says so,
and which weights were good before it; what is done about it is the loop's. Must not know a backend.

Sources: going back to a checkpoint from before, with a lower rate, is what OPT-175B did (arXiv 2205.01068, section
2.5); twice the loss of the steps before is the usual border of a spike (Lightning's SpikeDetection). One step above it
may be an odd batch, so several in a row are asked for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from localdistill.trainers.report import Recovery

WINDOW = 32
"""Calm steps whose median is the level of the loss."""
FIRST = 8
"""Calm steps at the beginning, whose median the loss must be far above too: of what was learned some may be lost."""
LEAST = 3
"""Calm steps without which there is no level."""
IN_A_ROW = 5
"""Steps above the border, one after the other, that make an explosion."""
LEAST_RISE = 1.0
"""In nats: twice almost nothing is not much."""
LOWERED = 0.1
"""Factor on the learning rate after the one return: a range test sets the rate an order of magnitude below the one at
which the loss diverges (arXiv 1506.01186), and there is no third try."""


class LossWatchdog:
    """What is known of the losses of one training."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._calm: deque[float] = deque(maxlen=WINDOW)
        self._above = 0
        self.good_step = 0
        """So many steps led to the newest weights whose loss was as usual."""
        self.recovery: Recovery | None = None
        """The one return to an earlier state."""

    @property
    def rate_factor(self) -> float:
        """What the learning rate is multiplied by."""
        return LOWERED if self.recovery else 1.0

    @property
    def is_calm(self) -> bool:
        """The newest loss was as usual."""
        return not self._above

    def what_is_wrong(self, loss: float, step: int) -> str:
        """With the loss of the 1-based `step`, as it is before that step is done; empty where nothing is."""
        if not math.isfinite(loss):
            return f"the loss was not finite at step {step}"
        if len(self._calm) >= LEAST:
            level = max(median(self._first), median(self._calm))
            if loss > level + max(abs(level), LEAST_RISE):
                self._above += 1
                return "" if self._above < IN_A_ROW else (
                    f"the loss exploded: at {IN_A_ROW} steps up to step {step} it lay far above its level of "
                    f"{level:.3g}, in the end at {loss:.3g}")
        if len(self._first) < FIRST:
            self._first.append(loss)
        self._calm.append(loss)
        self._above, self.good_step = 0, step - 1
        return ""

    def went_back(self, why: str, at_step: int, to_step: int) -> None:
        """The training goes on from an earlier state, with a lower rate."""
        self.recovery = Recovery(why, at_step, to_step, LOWERED)

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers of it."""
        return {"first": self._first, "calm": list(self._calm), "above": self._above, "good_step": self.good_step,
                "recovery": asdict(self.recovery) if self.recovery else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint remembers."""
        self._first = [float(loss) for loss in state["first"]]
        self._calm = deque((float(loss) for loss in state["calm"]), maxlen=WINDOW)
        self._above, self.good_step = int(state["above"]), int(state["good_step"])
        self.recovery = Recovery(**state["recovery"]) if state["recovery"] else None
