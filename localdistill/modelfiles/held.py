"""What stored weights are worth while a base is held in another way: the values that an adapter was fitted to. Must not
import torch or bitsandbytes at import, and must not hold more than the weight that it is given.

Source of NF4: https://arxiv.org/abs/2305.14314."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from localdistill.core.errors import MissingExtra
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import import_torch, pick_device

if TYPE_CHECKING:
    import torch

Held = Callable[[str, "torch.Tensor"], "torch.Tensor"]
"""Name and stored weight in float32 -> its values as it is held, in float32."""


def held_in_nf4(folder: ModelFolder, dtype: str) -> Held:
    """As `load_causal_model` holds weights of `folder` in NF4 and computes with them in `dtype`. A linear layer must
    be given whole, since its scales are rounded together. Raises MissingExtra."""
    arithmetic, device = getattr(import_torch(), dtype), pick_device("auto")
    try:
        from bitsandbytes.functional import dequantize_4bit
        from bitsandbytes.nn import Params4bit
    except ImportError as error:
        raise MissingExtra.of("train", "bitsandbytes") from error

    def held(name: str, weight: torch.Tensor) -> torch.Tensor:
        stored = weight.to(arithmetic)
        if name.endswith(".weight") and name.removesuffix(".weight").rpartition(".")[2] in folder.kind.linear_layers:
            packed = Params4bit(stored, requires_grad=False, quant_type="nf4", compress_statistics=True).to(device)
            stored = dequantize_4bit(packed.data, packed.quant_state).cpu()
        return stored.float()

    return held
