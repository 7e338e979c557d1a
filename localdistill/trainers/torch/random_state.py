"""The random numbers that dropout draws: of the CPU, and of the device where another one computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Of the CPU, and of the GPU where one computes."""
    of_device: dict[str, Callable[[], list[torch.Tensor]]] = {
        "cuda": lambda: [torch.cuda.get_rng_state(device)], "mps": lambda: [torch.mps.get_rng_state()]}
    return [torch.get_rng_state(), *of_device.get(device.type, list)()]


def set_random_state(states: Sequence[torch.Tensor], device: torch.device) -> None:
    """Draw again from where `random_state` was."""
    torch.set_rng_state(states[0])
    if len(states) > 1 and device.type == "cuda":  # states that were written on a CPU hold no more
        torch.cuda.set_rng_state(states[1], device)
    elif len(states) > 1 and device.type == "mps":
        torch.mps.set_rng_state(states[1])
