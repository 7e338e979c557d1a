"""The contract of architectures: what torch, MLX, export and plans must be told of a kind of student. A value of
config.json that a kind does not understand is an error, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures.rope import Rope, read_rope

Config = Mapping[str, Any]
"""A config.json that passed the checks of `ModelFolder`."""

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block, by the names that all kinds use so far."""
_SMALLEST_CONTEXT = 2048
"""What a config.json that states no context is taken to mean."""


@dataclass(frozen=True)
class GgufKind:
    """What llama.cpp knows of a kind."""

    name: str
    """What it calls it."""
    biases: frozenset[str] = frozenset()
    """Parts of a block whose biases it loads; a file with others does not load."""
    needed_biases: tuple[str, ...] = ()
    """Those without which it does not load."""
    rotates_pairs: bool = False
    """Whether it rotates neighbouring pairs where transformers rotates the two halves of a head."""
    has_head_norms: bool = False
    """Whether queries and keys are normalised head by head."""


@dataclass(frozen=True)
class MlxKind:
    """What mlx-lm knows of a kind."""

    module: str
    """The module of its models that holds the class."""
    refuse: Callable[[Config], str] = lambda config: ""
    """What of a config.json that class would leave out in silence, in words; empty when nothing."""


@dataclass(frozen=True)
class Architecture:
    """One kind of student."""

    name: str
    """For example `Qwen3ForCausalLM`."""
    model_type: str
    """What config.json must call it."""
    config_class: str
    """The class of its configuration in transformers."""
    window: Callable[[Config], int | None]
    """How many tokens attention looks back at most, as config.json says; None without such a limit."""
    gguf: GgufKind
    mlx: MlxKind
    linear_layers: tuple[str, ...] = LINEAR_LAYERS
    """The linear layers of a block, by the ends of their names."""
    default_context: int = _SMALLEST_CONTEXT

    def rope(self, config: Config) -> Rope:
        """Its rotary positions. Raises ModelFileError for a kind of them that is not known."""
        return read_rope(config)

    def mlx_config(self, config: Config) -> dict[str, Any]:
        """`config` in the words that the class of mlx-lm reads, every value said, so that none of its defaults counts.
        Raises ModelFileError where it would compute something else."""
        said = self.mlx.refuse(config) or refused_by_all(config)
        if said:
            raise ModelFileError(f"config.json: {said}, which mlx-lm does not compute for a {self.model_type}",
                                 'train it in torch: train.use = "torch_lora"')
        heads = int(config["num_attention_heads"])
        rope = self.rope(config)
        return {
            "model_type": self.mlx.module, "hidden_size": int(config["hidden_size"]),
            "num_hidden_layers": int(config["num_hidden_layers"]),
            "intermediate_size": _stated(config, "intermediate_size"), "num_attention_heads": heads,
            "num_key_value_heads": int(config.get("num_key_value_heads") or heads),
            "head_dim": head_size(config), "rms_norm_eps": float(config.get("rms_norm_eps", 1e-6)),
            "vocab_size": int(config["vocab_size"]),
            "max_position_embeddings": int(config.get("max_position_embeddings") or self.default_context),
            "attention_bias": bool(config.get("attention_bias")), "mlp_bias": bool(config.get("mlp_bias")),
            "rope_theta": rope.base, "rope_traditional": False, "rope_scaling": rope.to_mlx(),
            "tie_word_embeddings": bool(config.get("tie_word_embeddings")), "layer_types": None,
            "sliding_window": None,
        }


def head_size(config: Config) -> int:
    """Width of one head of attention."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def block_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every weight without which no block of a kind here computes, by the end of its name: linear layers
    as (out, in), norms as (width,). Of widths that config.json does not say, and libraries make up, nothing is said."""
    width, head = int(config["hidden_size"]), head_size(config)
    queries = int(config["num_attention_heads"]) * head
    found: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
        "self_attn.q_proj": (queries, width), "self_attn.o_proj": (width, queries),
    }
    if config.get("num_key_value_heads") is not None:
        shape = int(config["num_key_value_heads"]) * head, width
        found |= {"self_attn.k_proj": shape, "self_attn.v_proj": shape}
    if config.get("intermediate_size") is not None:
        wide = int(config["intermediate_size"])
        found |= {"mlp.gate_proj": (wide, width), "mlp.up_proj": (wide, width), "mlp.down_proj": (width, wide)}
    return found


def refused_by_all(config: Config) -> str:
    """What no kind here computes, in words; empty when nothing of it is asked."""
    if config.get("hidden_act", "silu") != "silu":
        return f"hidden_act '{config['hidden_act']}' is not silu"
    if float(config.get("partial_rotary_factor") or 1.0) != 1.0:
        return "partial_rotary_factor is below 1"
    return ""


def switched_window(config: Config) -> int | None:
    """The window of kinds that switch it on by `use_sliding_window`."""
    window: int | None = config.get("sliding_window") if config.get("use_sliding_window") else None
    return window


def _stated(config: Config, key: str) -> int:
    if not isinstance(config.get(key), int):
        raise ModelFileError(f"config.json lacks {key}")
    return int(config[key])
