"""What turns a dataset into an adapter: one training loop, and one member per library that computes its steps."""

from localdistill.core.registry import Family

TRAINERS = Family("trainer", __name__, {
    "mlx_lora": "MlxLoraTrainer",
    "torch_lora": "TorchLoraTrainer",
})
