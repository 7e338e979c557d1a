"""AdamW over named arrays of MLX: the same steps as torch's, with its correction of the first moments' bias, which the
library's own leaves out unless told.

Source: https://arxiv.org/abs/1711.05101."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx

FIRST, SECOND, LEAST = 0.9, 0.999, 1e-8
"""Decay of both moments, and what is added to the root of the second."""


class MlxAdamW:
    """Moments of what was stepped so far."""

    def __init__(self, weight_decay: float) -> None:
        self._decay = weight_decay
        self.steps = 0
        self._moments: dict[str, tuple[mx.array, mx.array]] = {}

    def step(self, values: Mapping[str, mx.array], gradients: Mapping[str, mx.array],
             rate: float) -> dict[str, mx.array]:
        """`values` after one step along `gradients`; those without one stay. Rows of tags are never decayed."""
        self.steps += 1
        correction, root = 1 - FIRST**self.steps, (1 - SECOND**self.steps) ** 0.5
        changed = dict(values)
        for name, gradient in gradients.items():
            value = values[name]
            first, second = self._moments.get(name) or (mx.zeros_like(value), mx.zeros_like(value))
            first = FIRST * first + (1 - FIRST) * gradient
            second = SECOND * second + (1 - SECOND) * mx.square(gradient)
            self._moments[name] = first, second
            decay = self._decay if ".lora_" in name else 0.0
            changed[name] = value * (1 - rate * decay) - (rate / correction) * first / (
                mx.sqrt(second) / root + LEAST)
        mx.eval(list(changed.values()), [list(pair) for pair in self._moments.values()])
        return changed

    def tensors(self) -> dict[str, mx.array]:
        """The moments, for a checkpoint."""
        return {f"{kind}.{name}": moment for name, pair in self._moments.items()
                for kind, moment in zip(("first", "second"), pair, strict=True)}

    def restore(self, tensors: Mapping[str, mx.array], steps: int) -> None:
        """Go on from what `tensors` gave."""
        self.steps = steps
        names = [name.removeprefix("first.") for name in tensors if name.startswith("first.")]
        self._moments = {name: (tensors[f"first.{name}"], tensors[f"second.{name}"]) for name in names}
