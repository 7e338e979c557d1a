"""What turns a dataset into an adapter: one training loop, and one member per library that computes its steps."""

import importlib.util
from collections.abc import Collection

from localdistill.core.registry import Family
from localdistill.modelfiles.apple import is_apple_silicon

TRAINERS = Family("trainer", __name__, {
    "mlx_lora": "MlxLoraTrainer",
    "torch_lora": "TorchLoraTrainer",
})

AUTO = "auto"
"""In a recipe, the same as no name: `usual_trainer`."""
TUNED = "tuned"
"""In place of a learning rate: the one that tuning finds."""


def usual_trainer(options: Collection[str] = ()) -> str:
    """The trainer that a recipe takes which names none: MLX on Apple silicon where it is installed, unless the recipe
    sets `options` that torch alone knows; else torch, which finds the GPUs of others."""
    if not is_apple_silicon() or importlib.util.find_spec("mlx_lm") is None:
        return "torch_lora"
    of_torch, of_mlx = (TRAINERS.load(name).Options.model_fields for name in ("torch_lora", "mlx_lora"))
    return "torch_lora" if any(key in of_torch and key not in of_mlx for key in options) else "mlx_lora"
