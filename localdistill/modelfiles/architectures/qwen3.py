"""Qwen3: queries and keys are normalised head by head, and the size of a head stands apart from the model's width."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import (
    GGUF_PARTS,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    Shapes,
    block_shapes,
    head_size,
    switched_windows,
)

HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
"""Parts of a block -> what GGUF calls them."""


def _refuse(config: Config) -> str:
    return "attention_bias is set" if config.get("attention_bias") else ""


def _shapes(config: Config) -> Shapes:
    return block_shapes(config) | dict.fromkeys(HEAD_NORMS, (head_size(config),))


ARCHITECTURE = Architecture(
    name="Qwen3ForCausalLM", model_type="qwen3", config_class="Qwen3Config", models="Qwen3 (dense)",
    windows=switched_windows, shapes=_shapes, defaults={"head_dim": 128},
    gguf=GgufKind("qwen3", parts={**GGUF_PARTS, **HEAD_NORMS}), mlx=MlxKind("qwen3", refuse=_refuse),
    tiny={"head_dim": 24, "rope_theta": 1e6})
