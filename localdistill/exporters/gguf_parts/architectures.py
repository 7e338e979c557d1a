"""What GGUF says about the decoder families that are exported: hyper-parameters and tensor names.

A config value that this file does not understand is an error, never a guess: a wrong rope or head count makes a file
that loads and talks nonsense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.folder import ModelFolder

ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2",
                 "Qwen3ForCausalLM": "qwen3"}
"""What llama.cpp calls them. A Mistral is a Llama with a window, which must not be in use."""

GLOBAL_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_BIASES = {
    "llama": frozenset(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    "qwen2": frozenset(("attn_q", "attn_k", "attn_v")),
    "qwen3": frozenset[str](),
}
"""Biases that llama.cpp loads, by its name of the family; a file with others does not load."""


@dataclass(frozen=True)
class Rope:
    """Rotary position settings; `kind` is none, linear, yarn or llama3."""

    base: float
    kind: str = "none"
    factor: float = 1.0
    original_context: int = 0
    low_factor: float = 1.0
    high_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """The hyper-parameters that GGUF stores."""

    name: str
    """llama (Mistral too), qwen2 or qwen3."""
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    context: int
    vocab: int
    tied: bool
    rope: Rope

    def rotated_heads(self, name: str) -> int:
        """Head count when the rows of GGUF tensor `name` must be reordered for llama.cpp's rope, else 0.

        llama.cpp's `llama` rotates neighbouring pairs where transformers rotates the two halves of a head.
        """
        if self.name != "llama":
            return 0
        part = name.split(".")[-2]
        return {"attn_q": self.heads, "attn_k": self.kv_heads}.get(part, 0)

    def gguf_name(self, name: str) -> str | None:
        """The GGUF name of the checkpoint's tensor `name`; None for one that is left out on purpose."""
        if name == "lm_head.weight" and self.tied:
            return None
        if name in GLOBAL_TENSORS:
            return GLOBAL_TENSORS[name]
        prefix, _, rest = name.removeprefix("model.layers.").partition(".")
        module, _, kind = rest.rpartition(".")
        if not name.startswith("model.layers.") or not prefix.isdigit() or module not in LAYER_TENSORS \
                or kind not in ("weight", "bias"):
            raise ModelFileError(f"tensor '{name}' is not part of a {self.name} model that can be exported",
                                 "merge the adapter into its base model before exporting")
        if int(prefix) >= self.layers:
            raise ModelFileError(f"tensor '{name}' lies beyond the {self.layers} layers of config.json")
        if kind == "bias" and LAYER_TENSORS[module] not in _BIASES[self.name]:
            raise ModelFileError(f"tensor '{name}' is a bias that llama.cpp does not know in a {self.name} model",
                                 "this student cannot be exported to GGUF")
        return f"blk.{prefix}.{LAYER_TENSORS[module]}.{kind}"

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes that must be there, by GGUF name (biases and head norms are optional or arch specific)."""
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocab, self.hidden), "output_norm.weight": (self.hidden,)}
        if not self.tied:
            shapes["output.weight"] = (self.vocab, self.hidden)
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (self.hidden,), "ffn_norm": (self.hidden,), "attn_q": (width, self.hidden),
            "attn_k": (kv_width, self.hidden), "attn_v": (kv_width, self.hidden),
            "attn_output": (self.hidden, width), "ffn_gate": (self.feed_forward, self.hidden),
            "ffn_up": (self.feed_forward, self.hidden), "ffn_down": (self.hidden, self.feed_forward),
        }
        if self.name == "qwen3":
            layer |= {"attn_q_norm": (self.head_dim,), "attn_k_norm": (self.head_dim,)}
        for number in range(self.layers):
            shapes |= {f"blk.{number}.{part}.weight": shape for part, shape in layer.items()}
            if self.name == "qwen2":
                shapes |= {f"blk.{number}.attn_{part}.bias": layer[f"attn_{part}"][:1] for part in "qkv"}
        return shapes

    def rope_factors(self) -> list[float] | None:
        """Divisors of the rotary frequencies (head_dim / 2 values) for Llama 3.1's scaling, else None."""
        if self.rope.kind != "llama3":
            return None
        rope, factors = self.rope, []
        for pair in range(0, self.head_dim, 2):
            wavelength = 2 * math.pi * rope.base ** (pair / self.head_dim)
            if wavelength < rope.original_context / rope.high_factor:
                factors.append(1.0)
            elif wavelength > rope.original_context / rope.low_factor:
                factors.append(rope.factor)
            else:
                smooth = (rope.original_context / wavelength - rope.low_factor) / (rope.high_factor - rope.low_factor)
                factors.append(1 / ((1 - smooth) / rope.factor + smooth))
        return factors


def read_architecture(folder: ModelFolder, used_tokens: int = 0) -> Architecture:
    """The architecture of the model in `folder`. Raises ModelFileError for anything that GGUF could not say exactly.

    `used_tokens`: the longest text that the student is trained on and served with; 0 is all of its context. llama.cpp
    computes no sliding window for these families: one that such a text never reaches past is left out, and the
    context that the file states ends at it.
    """
    config = folder.config
    if folder.architecture not in ARCHITECTURES:
        raise ModelFileError(f"config.json: {folder.architecture} cannot be exported to GGUF",
                             f"exported are: {', '.join(ARCHITECTURES)}")
    _refuse_unknown(config)
    used = used_tokens or folder.context_length
    if folder.window is not None and folder.window < used:
        raise ModelFileError(f"config.json: texts of {used} tokens are read through a sliding window of {folder.window}"
                             ", which llama.cpp does not compute for this family",
                             f"set student.max_tokens to at most {folder.window}, or use a student without a window")
    try:
        heads = int(config["num_attention_heads"])
        return Architecture(
            name=ARCHITECTURES[folder.architecture], layers=folder.layers, hidden=folder.hidden_size,
            feed_forward=int(config["intermediate_size"]), heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or folder.hidden_size // heads),
            rms_eps=float(config.get("rms_norm_eps", 1e-6)), context=folder.window or folder.context_length,
            vocab=folder.vocab_size, tied=folder.tied_embeddings, rope=_rope(config),
        )
    except KeyError as error:
        raise ModelFileError(f"config.json lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"config.json holds a value of the wrong kind: {error}") from error


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFileError(f"config.json: hidden_act '{config['hidden_act']}' is not what llama.cpp computes (silu)")
    if float(config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ModelFileError("config.json: partial_rotary_factor below 1 cannot be exported")


def _rope(config: Mapping[str, Any]) -> Rope:
    scaling: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    if kind == "default":
        return Rope(base)
    if kind not in ("linear", "yarn", "llama3"):
        raise ModelFileError(f"config.json: rope type '{kind}' cannot be exported",
                             "exported: default, linear, yarn, llama3")
    if kind == "yarn" and any(scaling.get(key) is not None for key in ("attention_factor", "mscale", "mscale_all_dim")):
        raise ModelFileError("config.json: yarn with its own attention factor cannot be exported")
    original = scaling.get("original_max_position_embeddings") or config["max_position_embeddings"]
    return Rope(base, kind, float(scaling["factor"]), int(original), float(scaling.get("low_freq_factor", 1.0)),
                float(scaling.get("high_freq_factor", 4.0)), float(scaling.get("beta_fast") or 32.0),
                float(scaling.get("beta_slow") or 1.0))
