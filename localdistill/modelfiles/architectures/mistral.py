"""Mistral: a Llama without biases that looks back through a sliding window, in every layer."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import Architecture, Config, GgufKind, MlxKind
from localdistill.modelfiles.architectures.llama import BIASES

DEFAULT_WINDOW = 4096
"""What transformers takes for a Mistral whose config.json does not speak of a window."""


def _window(config: Config) -> int | None:
    window: int | None = config.get("sliding_window", DEFAULT_WINDOW)
    return window


ARCHITECTURE = Architecture(
    name="MistralForCausalLM", model_type="mistral", config_class="MistralConfig", window=_window,
    gguf=GgufKind("llama", BIASES, rotates_pairs=True), mlx=MlxKind("llama"))
