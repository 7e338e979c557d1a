"""What turns a dataset into an adapter: one training loop, and one member per library that computes its steps."""

from localdistill.core.registry import Family

TRAINERS = Family("trainer", __name__, {
    "torch_lora": "TorchLoraTrainer",
})
