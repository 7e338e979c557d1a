"""What turns a dataset into an adapter: one training loop, and one member per library that computes its steps."""

import importlib.util

from localdistill.core.registry import Family
from localdistill.modelfiles.apple import is_apple_silicon

TRAINERS = Family("trainer", __name__, {
    "mlx_lora": "MlxLoraTrainer",
    "torch_lora": "TorchLoraTrainer",
})

AUTO = "auto"
"""In a recipe, the same as no name: `usual_trainer`."""


def usual_trainer() -> str:
    """The trainer that a recipe takes which names none: MLX on Apple silicon where it is installed, else torch, which
    finds the GPUs of others."""
    return "mlx_lora" if is_apple_silicon() and importlib.util.find_spec("mlx_lm") is not None else "torch_lora"
