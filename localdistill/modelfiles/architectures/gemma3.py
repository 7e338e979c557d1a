"""Gemma 3 for text: a Gemma whose heads are normalised, with rotary positions of its own in the layers that look back
through a window, of which there are five for every one that sees everything."""

from __future__ import annotations

import struct
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures.base import (
    FULL,
    SLIDING,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    Shapes,
    head_size,
    one_window,
)
from localdistill.modelfiles.architectures.gemma2 import (
    DEFAULT_WINDOW,
    DEFAULTS,
    PARTS,
    cap,
    embedding_scale,
    gemma_shapes,
    layer_types,
    refuse_scalar,
    scalar,
    two_ways,
)
from localdistill.modelfiles.architectures.qwen3 import HEAD_NORMS
from localdistill.modelfiles.architectures.rope import Rope, read_rope

EVERY = 6
"""llama.cpp lets each such layer see everything."""
_LOCAL_BASE, _BASE = 10_000.0, 1_000_000.0
_LARGEST = 62


def _every(config: Config) -> int:
    return int(config.get("sliding_window_pattern") or EVERY)


def _types(config: Config) -> list[str]:
    return layer_types(config, _every(config))


def _ropes(config: Config) -> dict[str, Rope]:
    """Of both kinds of layers; before transformers 5 their bases stood in two keys."""
    stated = config.get("rope_parameters") or {}
    if FULL in stated or SLIDING in stated:
        both: dict[str, Any] = {key: stated.get(key) or {} for key in (FULL, SLIDING)}
    else:
        both = {FULL: stated or {"rope_theta": config.get("rope_theta"), **(config.get("rope_scaling") or {})},
                SLIDING: {"rope_theta": config.get("rope_local_base_freq")}}
    plain = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_theta")}
    found = {key: read_rope({**plain, "rope_parameters": both[key]}, base)
             for key, base in ((FULL, _BASE), (SLIDING, _LOCAL_BASE))}
    if found[SLIDING].kind != "none" or found[FULL].kind not in ("none", "linear"):
        raise ModelFileError("config.json: rotary positions that are scaled in this way are computed by no library "
                             "alike for a Gemma 3", "use another model")
    return found


def _shapes(config: Config) -> Shapes:
    return {**gemma_shapes(config), **dict.fromkeys(HEAD_NORMS, (head_size(config),))}


def _windows(config: Config) -> list[int | None]:
    return one_window({**config, "layer_types": _types(config)}, config.get("sliding_window", DEFAULT_WINDOW))


def _capped(config: Config) -> str:
    capped = [key for key in ("attn_logit_softcapping", "final_logit_softcapping") if config.get(key) is not None]
    return f"{capped[0]} is set" if capped else two_ways(config)


def _refuse_gguf(config: Config) -> str:
    if _types(config) != layer_types({**config, "layer_types": None}, EVERY):
        return f"other layers than every {EVERY}th one see everything"
    if _ropes(config)[SLIDING].base != _LOCAL_BASE:
        return f"rotary positions of layers with a window have the base {_ropes(config)[SLIDING].base:g}"
    return _capped(config) or refuse_scalar(config, _LARGEST)


def _pattern(config: Config) -> int:
    """Which layers see everything, in mlx-lm's way: each so manieth. 0 where that cannot be said."""
    types = _types(config)
    first = types.index(FULL) + 1 if FULL in types else 0
    return first if first and types == layer_types({**config, "layer_types": None}, first) else 0


def _rounded_scale(config: Config) -> float:
    """mlx-lm rounds the factor of embeddings to bfloat16 (to the nearest, ties to even), whatever it computes in."""
    bits = struct.unpack("<I", struct.pack("<f", embedding_scale(config)))[0]
    bits += 0x7FFF + (bits >> 16 & 1)
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0])


def _refuse_mlx(config: Config) -> str:
    if not _pattern(config):
        return "the layers that see everything do not stand at equal distances"
    return _capped(config) or ("attention_bias is set" if config.get("attention_bias") else "")


def _words(config: Config) -> dict[str, Any]:
    ropes = _ropes(config)
    return {"rope_theta": ropes[FULL].base, "rope_local_base_freq": ropes[SLIDING].base,
            "query_pre_attn_scalar": scalar(config), "sliding_window_pattern": _pattern(config),
            "sliding_window": int(config.get("sliding_window") or DEFAULT_WINDOW)}


ARCHITECTURE = Architecture(
    name="Gemma3ForCausalLM", model_type="gemma3_text", config_class="Gemma3TextConfig",
    models="Gemma 3 270M and 1B, and larger ones without their eyes", windows=_windows, shapes=_shapes,
    activation="gelu_pytorch_tanh", activation_key="hidden_activation", ropes=_ropes,
    defaults=DEFAULTS, embedding_scale=embedding_scale,
    logit_cap=lambda config: cap(config, "final_logit_softcapping", None),
    gguf=GgufKind("gemma3", parts={**PARTS, **HEAD_NORMS}, norms_add_one=True, computes_windows=True,
                  facts=lambda config: {"attention.sliding_window": int(config.get("sliding_window")
                                                                        or DEFAULT_WINDOW)}, refuse=_refuse_gguf),
    mlx=MlxKind("gemma3_text", refuse=_refuse_mlx, words=_words, computes_windows=True, embedding_scale=_rounded_scale,
                least_layers=_pattern, takes_head_away=True),
    tiny={"num_hidden_layers": 6, "head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 32})
