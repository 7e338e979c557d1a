"""What turns a dataset into an adapter."""

from localdistill.core.registry import Family

TRAINERS = Family("trainer", __name__, {
    "torch_lora": "TorchLoraTrainer",
})
