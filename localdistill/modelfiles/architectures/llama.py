"""Llama, and all that share its layout (SmolLM2, TinyLlama, the pantry student): biases where config.json says so."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import Architecture, GgufKind, MlxKind

BIASES = frozenset(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))

ARCHITECTURE = Architecture(
    name="LlamaForCausalLM", model_type="llama", config_class="LlamaConfig",
    models="Llama 1 to 3.3, TinyLlama, SmolLM2, R1-Distill-Llama",
    gguf=GgufKind("llama", BIASES, rotates_pairs=True), mlx=MlxKind("llama"),
    tiny={"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                              "high_freq_factor": 4.0, "original_max_position_embeddings": 128}})
