"""What a config.json claims of its student: values that a model can have, and counts that the tensors beside it bear
out, because libraries make layers and lists as long as it says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from localdistill.modelfiles.architectures.base import FULL, SLIDING, Architecture, Config

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_MOST = 1 << 31
"""Larger than any width, vocabulary or context."""
_NEEDED = ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads")
_WHOLE = ("intermediate_size", "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window",
          "original_max_position_embeddings", "sliding_window_pattern", "no_rope_layer_interval")
_AMOUNTS = ("rms_norm_eps", "rope_theta", "rope_local_base_freq", "attention_dropout", "initializer_range",
            "partial_rotary_factor", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping")
_NEVER_NULL = ("rms_norm_eps",)
_MAY_BE_ZERO = ("attention_dropout", "initializer_range")
_SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window", "use_cache",
             "use_bidirectional_attention")
_TEXTS = ("hidden_act", "hidden_activation", "model_type", "dtype", "torch_dtype")
_ROPES = ("rope_parameters", "rope_scaling")
_ROPE_AMOUNTS = ("rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
                 "beta_fast", "beta_slow", "partial_rotary_factor")
_ROPE_FACTORS = ("short_factor", "long_factor")
_LAYER_LISTS = ("layer_types", "no_rope_layers")
_BLOCK = re.compile(r"model\.layers\.(\d+)\.")
_MOST_DIGITS = 6


def wrong_value(config: Config) -> str:
    """Which value of `config` no model of a known kind can have, in words; empty when there is none."""
    for key in (*_NEEDED, *_WHOLE):
        value: Any = config.get(key)
        if not (value is None and key in _WHOLE) and not (_is_whole(value) and 0 < value < _MOST):
            return f"{key} must be a positive whole number, not {shown(value)}"
    first = config.get("max_window_layers")
    if first is not None and not (_is_whole(first) and 0 <= first < _MOST):
        return f"max_window_layers must be a whole number, not {shown(first)}"
    amounts = {key: config.get(key) for key in _AMOUNTS}
    for place, stated in _rope_tables(config).items():
        if not isinstance(stated, dict):
            return f"{place} must be a table, not {shown(stated)}"
        amounts |= {f"{place}.{key}": stated.get(key) for key in _ROPE_AMOUNTS}
        for key in _ROPE_FACTORS:
            if stated.get(key) is not None and not isinstance(stated[key], list):
                return f"{place}.{key} must be a list, not {shown(stated[key])}"
    for key, value in amounts.items():
        is_there = value is not None or (key in _NEVER_NULL and key in config)
        if is_there and not _is_amount(value, may_be_zero=key in _MAY_BE_ZERO):
            return f"{key} must be a number, positive and finite, not {shown(value)}"
    kinds = [(key, bool, "true or false") for key in _SWITCHES] + [(key, str, "a text") for key in _TEXTS]
    for key, kind, words in kinds:
        if config.get(key) is not None and not isinstance(config[key], kind):
            return f"{key} must be {words}, not {shown(config[key])}"
    return ""


def _rope_tables(config: Config) -> dict[str, Any]:
    """What `config` says of rotary positions, by place; some kinds say it by kind of layer."""
    found = {place: config[place] for place in _ROPES if config.get(place) is not None}
    for place, stated in list(found.items()):
        if isinstance(stated, dict):
            found |= {f"{place}.{key}": stated[key] for key in (FULL, SLIDING) if stated.get(key) is not None}
    return found


def wrong_claim(kind: Architecture, config: Config, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What of the `config` of a `kind`, whose values are right, cannot be true of a student with weights of these
    shapes, in words; empty when nothing is."""
    blocks = {found[1] for name in shapes if (found := _BLOCK.match(name))}
    far = next((number for number in blocks if len(number) > _MOST_DIGITS), None)
    if far is not None:
        return f"its files hold a tensor of layer {far[:20]}"
    held, layers = {int(number) for number in blocks}, config["num_hidden_layers"]
    if len(held) != layers or max(held) != layers - 1:
        return f"num_hidden_layers says {layers:,}, and its files hold tensors of {len(held):,} layers"
    for key in _LAYER_LISTS:
        types = config.get(key)
        if types is not None and not (isinstance(types, list) and len(types) == layers):
            return f"{key} does not say one kind for each of the {layers:,} layers"
    rows = config["vocab_size"], config["hidden_size"]
    wanted: dict[str, tuple[int, ...]] = {EMBEDDING: rows, "model.norm.weight": rows[1:]}
    if HEAD in shapes:
        wanted[HEAD] = rows
    of_block = kind.shapes(config)
    for number in range(layers):
        wanted |= {f"model.layers.{number}.{part}.weight": shape for part, shape in of_block.items()}
    for name, shape in wanted.items():
        if name not in shapes:
            return f"its files hold no {name}"
        if shapes[name] != shape:
            return f"it means {name} to be {_sides(shape)}, and its files hold it as {_sides(shapes[name])}"
    return ""


def shown(value: object) -> str:
    """`value` for a message, however long it is. Long numbers are not written out: that takes longer than to read
    them."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of more than 38 digits"
    if isinstance(value, (list, tuple, dict)):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value):,}"
    return ascii(value[:80] if isinstance(value, str) else value)[:100]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_amount(value: Any, may_be_zero: bool) -> bool:
    if _is_whole(value):
        value = float(value) if value.bit_length() < 64 else math.inf
    return isinstance(value, float) and math.isfinite(value) and (value > 0 or (may_be_zero and value == 0))


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in shape) or "one number"
