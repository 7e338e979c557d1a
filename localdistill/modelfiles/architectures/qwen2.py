"""Qwen2 and Qwen2.5: biases on queries, keys and values, heads as wide as the model divided by their number."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import (
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    head_size,
    switched_windows,
)

_BIASES = ("attn_q", "attn_k", "attn_v")


def _refuse(config: Config) -> str:
    if head_size(config) * config["num_attention_heads"] != config["hidden_size"]:
        return f"head_dim {head_size(config)} is not the width of the model divided by its heads"
    return ""


ARCHITECTURE = Architecture(
    name="Qwen2ForCausalLM", model_type="qwen2", config_class="Qwen2Config",
    models="Qwen2, Qwen2.5, R1-Distill-Qwen", windows=switched_windows,
    gguf=GgufKind("qwen2", frozenset(_BIASES), _BIASES), mlx=MlxKind("qwen2", refuse=_refuse),
    tiny={"rope_theta": 1e6})
