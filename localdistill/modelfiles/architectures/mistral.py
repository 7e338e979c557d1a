"""Mistral: a Llama without biases that looks back through a sliding window, in every layer."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import Architecture, Config, GgufKind, MlxKind, one_window
from localdistill.modelfiles.architectures.llama import BIASES

DEFAULT_WINDOW = 4096
"""What transformers takes for a Mistral whose config.json does not speak of a window."""


def _windows(config: Config) -> list[int | None]:
    return one_window({**config, "layer_types": None}, config.get("sliding_window", DEFAULT_WINDOW))


ARCHITECTURE = Architecture(
    name="MistralForCausalLM", model_type="mistral", config_class="MistralConfig",
    models="Mistral 7B, Nemo, Small, Ministral 8B", windows=_windows,
    gguf=GgufKind("llama", BIASES, rotates_pairs=True), mlx=MlxKind("llama"),
    tiny={"sliding_window": 256, "head_dim": 24, "tie_word_embeddings": False})
