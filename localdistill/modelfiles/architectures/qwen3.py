"""Qwen3: queries and keys are normalised head by head, and the size of a head stands apart from the model's width."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import Architecture, Config, GgufKind, MlxKind, switched_window


def _refuse(config: Config) -> str:
    return "attention_bias is set" if config.get("attention_bias") else ""


ARCHITECTURE = Architecture(
    name="Qwen3ForCausalLM", model_type="qwen3", config_class="Qwen3Config", window=switched_window,
    gguf=GgufKind("qwen3", has_head_norms=True), mlx=MlxKind("qwen3", _refuse))
