"""Ministral: a Mistral that says layer by layer whether it looks back through a window."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import (
    FULL,
    SLIDING,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    one_window,
)
from localdistill.modelfiles.architectures.llama import BIASES
from localdistill.modelfiles.architectures.mistral import DEFAULT_WINDOW


def _windows(config: Config) -> list[int | None]:
    return one_window(config, config.get("sliding_window", DEFAULT_WINDOW))


ARCHITECTURE = Architecture(
    name="MinistralForCausalLM", model_type="ministral", config_class="MinistralConfig",
    models="Ministral 8B with windows by layer", windows=_windows,
    gguf=GgufKind("llama", BIASES, rotates_pairs=True), mlx=MlxKind("llama"),
    tiny={"sliding_window": 256, "head_dim": 24, "layer_types": [SLIDING, FULL], "tie_word_embeddings": False})
