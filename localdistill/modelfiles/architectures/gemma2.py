"""Gemma 2: norms around both halves of a block, stored as their difference from one; scores and logits that are capped;
every other layer looks back through a window."""

from __future__ import annotations

import math

from localdistill.modelfiles.architectures.base import (
    FULL,
    GGUF_PARTS,
    SLIDING,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    Shapes,
    block_shapes,
    head_size,
    one_window,
)

PARTS = {**GGUF_PARTS, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
"""What GGUF calls the parts of a block of a Gemma."""
DEFAULTS = {"head_dim": 256, "num_key_value_heads": 4, "tie_word_embeddings": True}
DEFAULT_WINDOW = 4096
_ATTENTION_CAP, _LOGIT_CAP, _SCALAR = 50.0, 30.0, 256
_LARGEST = 46
"""Layers of the 27B, which llama.cpp knows by their number, and whose scores it divides in another way."""


def embedding_scale(config: Config) -> float:
    """What the embedding of a token is multiplied by."""
    return math.sqrt(config["hidden_size"])


def layer_types(config: Config, every: int) -> list[str]:
    """Kinds of layers, where config.json does not say: every so manieth sees everything."""
    stated = config.get("layer_types")
    if isinstance(stated, list):
        return [str(one) for one in stated]
    return [SLIDING if (number + 1) % every else FULL for number in range(int(config["num_hidden_layers"]))]


def gemma_shapes(config: Config) -> Shapes:
    """Norms before and behind both halves of a block, beside what all kinds have."""
    width = (int(config["hidden_size"]),)
    return block_shapes(config) | {"pre_feedforward_layernorm": width, "post_feedforward_layernorm": width}


def cap(config: Config, key: str, usual: float | None) -> float | None:
    """A cap as config.json states it; null is none."""
    value = config.get(key, usual)
    return None if value is None else float(value)


def scalar(config: Config) -> float:
    """Attention scores are divided by its root."""
    return float(config.get("query_pre_attn_scalar") or _SCALAR)


def refuse_scalar(config: Config, largest: int) -> str:
    """llama.cpp states no scalar: it takes the width of a head, or, of the largest model, that of its share."""
    wanted = head_size(config)
    if int(config["num_hidden_layers"]) == largest:
        wanted = config["hidden_size"] // config["num_attention_heads"]
    return "" if scalar(config) == wanted else f"query_pre_attn_scalar is {scalar(config):g}, not {wanted}"


def two_ways(config: Config) -> str:
    """Attention that sees what comes, in words."""
    return "use_bidirectional_attention is set" if config.get("use_bidirectional_attention") else ""


def _refuse_gguf(config: Config) -> str:
    if layer_types(config, 2) != layer_types({**config, "layer_types": None}, 2):
        return "other layers than every second one see everything"
    if cap(config, "attn_logit_softcapping", _ATTENTION_CAP) is None or _logit_cap(config) is None:
        return "a cap is switched off"
    if not config.get("tie_word_embeddings"):
        return "tie_word_embeddings is not set"
    return two_ways(config) or refuse_scalar(config, _LARGEST)


def _refuse_mlx(config: Config) -> str:
    if not config.get("tie_word_embeddings"):
        return "tie_word_embeddings is not set"
    if cap(config, "attn_logit_softcapping", _ATTENTION_CAP) is None or _logit_cap(config) is None:
        return "a cap is switched off"
    return two_ways(config) or ("attention_bias is set" if config.get("attention_bias") else "")


def _logit_cap(config: Config) -> float | None:
    return cap(config, "final_logit_softcapping", _LOGIT_CAP)


def _facts(config: Config) -> dict[str, int | float]:
    return {"attn_logit_softcapping": cap(config, "attn_logit_softcapping", _ATTENTION_CAP) or 0.0,
            "final_logit_softcapping": _logit_cap(config) or 0.0,
            "attention.sliding_window": int(config.get("sliding_window") or DEFAULT_WINDOW)}


def _words(config: Config) -> dict[str, float]:
    return {"attn_logit_softcapping": cap(config, "attn_logit_softcapping", _ATTENTION_CAP) or 0.0,
            "final_logit_softcapping": _logit_cap(config) or 0.0, "query_pre_attn_scalar": scalar(config)}


def _windows(config: Config) -> list[int | None]:
    return one_window({**config, "layer_types": layer_types(config, 2)}, config.get("sliding_window", DEFAULT_WINDOW))


ARCHITECTURE = Architecture(
    name="Gemma2ForCausalLM", model_type="gemma2", config_class="Gemma2Config", models="Gemma 2",
    windows=_windows, shapes=gemma_shapes, activation="gelu_pytorch_tanh", activation_key="hidden_activation",
    attention="eager", embedding_scale=embedding_scale, logit_cap=_logit_cap, defaults=DEFAULTS,
    gguf=GgufKind("gemma2", parts=PARTS, norms_add_one=True, computes_windows=True, facts=_facts, refuse=_refuse_gguf),
    mlx=MlxKind("gemma2", refuse=_refuse_mlx, words=_words, needs_mask=True),
    tiny={"head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 32, "attn_logit_softcapping": 5.0,
          "final_logit_softcapping": 3.0})
