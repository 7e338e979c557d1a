"""Phi-3 to Phi-4-mini: queries, keys and values are one layer, gate and up another; part of a head is rotated, by
factors for every frequency; a window of which only texts within it are read alike everywhere."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import (
    FULL,
    GGUF_PARTS,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    Shapes,
    head_size,
    one_window,
    stated_context,
)
from localdistill.modelfiles.architectures.rope import LONGROPE, Rope, read_rope

PARTS = {key: GGUF_PARTS[key] for key in ("input_layernorm", "post_attention_layernorm", "self_attn.o_proj",
                                          "mlp.down_proj")}
_KINDS = (LONGROPE,)


def _rope(config: Config) -> Rope:
    return read_rope(config, kinds=_KINDS)


def _context(config: Config) -> int:
    """Beyond the original context every position turns anew as soon as one text of a batch is longer, in which
    libraries differ: texts end there."""
    rope = _rope(config)
    return min(stated_context(config), rope.original_context) if rope.kind == LONGROPE else stated_context(config)


def _shapes(config: Config) -> Shapes:
    width, head = int(config["hidden_size"]), head_size(config)
    queries = int(config["num_attention_heads"]) * head
    values = int(config.get("num_key_value_heads") or config["num_attention_heads"]) * head
    found: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
        "self_attn.qkv_proj": (queries + 2 * values, width), "self_attn.o_proj": (width, queries),
    }
    if config.get("intermediate_size") is not None:
        wide = int(config["intermediate_size"])
        found |= {"mlp.gate_up_proj": (2 * wide, width), "mlp.down_proj": (width, wide)}
    return found


def _facts(config: Config) -> dict[str, int | float]:
    rope = _rope(config)
    if rope.kind != LONGROPE:
        return {}
    return {"rope.scaling.original_context_length": rope.original_context,
            "rope.scaling.attn_factor": rope.attention_factor}


def _words(config: Config) -> dict[str, object]:
    rope = _rope(config)
    return {"partial_rotary_factor": rope.share,
            "rope_scaling": rope.to_mlx() if rope.kind == LONGROPE else None,
            "original_max_position_embeddings": rope.original_context or stated_context(config)}


def _refuse(config: Config) -> str:
    if head_size(config) * config["num_attention_heads"] != config["hidden_size"]:
        return f"head_dim {head_size(config)} is not the width of the model divided by its heads"
    return ""


ARCHITECTURE = Architecture(
    name="Phi3ForCausalLM", model_type="phi3", config_class="Phi3Config", models="Phi-3, Phi-3.5, Phi-4, Phi-4-mini",
    windows=lambda config: one_window({**config, "layer_types": None}, config.get("sliding_window")),
    shapes=_shapes, linear_layers=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"), context=_context,
    defaults={"rms_norm_eps": 1e-5},
    ropes=lambda config: {FULL: _rope(config)},
    gguf=GgufKind("phi3", parts={**PARTS, "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
                  facts=_facts),
    mlx=MlxKind("phi3", refuse=_refuse, words=_words),
    tiny={"partial_rotary_factor": 0.75, "max_position_embeddings": 1024, "original_max_position_embeddings": 256,
          "rope_scaling": {"type": LONGROPE, "short_factor": [1.0, 1.1, 1.3, 1.4, 1.6, 1.9],
                           "long_factor": [1.0, 1.5, 2.0, 3.0, 5.0, 9.0]}})
