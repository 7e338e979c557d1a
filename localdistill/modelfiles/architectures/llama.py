"""Llama, and all that share its layout (SmolLM2, TinyLlama, the pantry student): biases where config.json says so."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import Architecture, GgufKind, MlxKind

BIASES = frozenset(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))

ARCHITECTURE = Architecture(
    name="LlamaForCausalLM", model_type="llama", config_class="LlamaConfig", window=lambda config: None,
    gguf=GgufKind("llama", BIASES, rotates_pairs=True), mlx=MlxKind("llama"))
