"""The contract of architectures: what torch, MLX, export and plans must be told of a kind of student. A value of
config.json that a kind does not understand is an error, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures.rope import Rope, read_rope

Config = Mapping[str, Any]
"""A config.json that passed the checks of `ModelFolder`."""
Shapes = Mapping[str, tuple[int, ...]]
"""End of a weight's name -> its shape; linear layers as (out, in), norms as (width,)."""

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block, by the names that most kinds use."""
GGUF_PARTS: Mapping[str, str] = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Parts of a block -> what GGUF calls them, as most kinds have them."""
_SMALLEST_CONTEXT = 2048
"""What a config.json that states no context is taken to mean."""
_FIRST_WINDOW = 28
SLIDING, FULL = "sliding_attention", "full_attention"
"""How config.json calls layers in `layer_types`."""


def _nothing(config: Config) -> str:
    return ""


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
    parts: Mapping[str, str] = field(default_factory=lambda: GGUF_PARTS)
    """Parts of a block -> what it calls them."""
    norms_add_one: bool = False
    """Whether norms are stored as their difference from one, and it wants them whole."""
    computes_windows: bool = False
    """Whether it lets layers look back through a window, where the file states one."""
    facts: Callable[[Config], Mapping[str, int | float]] = lambda config: {}
    """What a file of this kind states beside what all state, by the end of its key."""
    refuse: Callable[[Config], str] = _nothing
    """What of a config.json it would compute in another way, in words; empty when nothing."""


@dataclass(frozen=True)
class MlxKind:
    """What mlx-lm knows of a kind."""

    module: str
    """The module of its models that holds the class."""
    attention: str = ""
    """The one whose attention the class uses, where that is another."""
    refuse: Callable[[Config], str] = _nothing
    """What of a config.json that class would leave out in silence, in words; empty when nothing."""
    words: Callable[[Config], Mapping[str, Any]] = lambda config: {}
    """Settings that the class reads beside, or in another way than, those that all read."""
    computes_windows: bool = False
    """Whether its layers look back through their windows."""
    needs_mask: bool = False
    """Whether its attention is its own and must be given the mask, all of it."""
    embedding_scale: Callable[[Config], float] | None = None
    """What it multiplies the embedding of a token by, where that is not quite what transformers does."""
    least_layers: Callable[[Config], int] = lambda config: 1
    """So many of the first layers hold one of every kind."""
    takes_head_away: bool = False
    """Whether a tied model begins with a head, and must be told to drop it."""


@dataclass(frozen=True)
class Architecture:
    """One kind of student."""

    name: str
    """For example `Qwen3ForCausalLM`."""
    model_type: str
    """What config.json must call it."""
    config_class: str
    """The class of its configuration in transformers."""
    models: str
    """Models of this kind that people know, for lists."""
    gguf: GgufKind
    mlx: MlxKind
    windows: Callable[[Config], Sequence[int | None]] = lambda config: [None] * int(config["num_hidden_layers"])
    """How many tokens each layer looks back at most, as config.json says; None without such a limit."""
    shapes: Callable[[Config], Shapes] = lambda config: block_shapes(config)
    """The shape of every weight of a block that config.json settles."""
    linear_layers: tuple[str, ...] = LINEAR_LAYERS
    """The linear layers of a block, by the ends of their names."""
    activation: Literal["silu", "gelu_pytorch_tanh"] = "silu"
    activation_key: str = "hidden_act"
    """Where config.json states it."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """The attention of transformers that computes it."""
    embedding_scale: Callable[[Config], float] = lambda config: 1.0
    """What the embedding of a token is multiplied by."""
    logit_cap: Callable[[Config], float | None] = lambda config: None
    """Where logits are bent to stay below a size (cap times tanh of logit by cap); None where they are not."""
    context: Callable[[Config], int] = lambda config: stated_context(config)
    """Most positions of one text that all libraries read alike."""
    ropes: Callable[[Config], Mapping[str, Rope]] = lambda config: {FULL: read_rope(config)}
    """Rotary positions by kind of layer; what all layers share stands under `full_attention`."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values that transformers takes where config.json does not say them, and which are not those of all kinds."""
    tiny: Mapping[str, Any] = field(default_factory=dict)
    """Settings in which a tiny random one shows what is special about this kind, for its contract test."""

    def rope(self, config: Config) -> Rope:
        """Its rotary positions, where all layers have the same. Raises ModelFileError for a kind that is not known."""
        return self.ropes(config)[FULL]

    def window(self, config: Config) -> int | None:
        """The shortest window of a layer; None where all layers see everything."""
        return min((window for window in self.windows(config) if window is not None), default=None)

    def refused(self, config: Config) -> str:
        """What of a config.json no library here computes in a model of this kind, in words; empty when nothing."""
        said = config.get(self.activation_key) or self.activation
        return "" if said == self.activation else f"{self.activation_key} '{said}' is not {self.activation}"

    def mlx_embedding_scale(self, config: Config) -> float:
        """What mlx-lm multiplies the embedding of a token by."""
        return (self.mlx.embedding_scale or self.embedding_scale)(config)

    def mlx_limit(self, config: Config) -> int | None:
        """The longest text in tokens that mlx-lm reads as transformers does; None: all that the context holds."""
        return None if self.mlx.computes_windows else self.window(config)

    def mlx_config(self, config: Config) -> dict[str, Any]:
        """`config` in the words that the class of mlx-lm reads, every value said, so that none of its defaults counts.
        Raises ModelFileError where it would compute something else."""
        said = self.mlx.refuse(config) or self.refused(config)
        if said:
            raise ModelFileError(f"config.json: {said}, which mlx-lm does not compute for a {self.model_type}",
                                 'train it in torch: train.use = "torch_lora"')
        rope = self.rope(config)
        heads = int(config["num_attention_heads"])
        return {
            "model_type": self.mlx.module, "hidden_size": int(config["hidden_size"]),
            "num_hidden_layers": int(config["num_hidden_layers"]),
            "intermediate_size": _stated(config, "intermediate_size"), "num_attention_heads": heads,
            "num_key_value_heads": int(config.get("num_key_value_heads") or heads),
            "head_dim": head_size(config), "rms_norm_eps": float(config.get("rms_norm_eps", 1e-6)),
            "vocab_size": int(config["vocab_size"]),
            "max_position_embeddings": stated_context(config),
            "attention_bias": bool(config.get("attention_bias")), "mlp_bias": bool(config.get("mlp_bias")),
            "rope_theta": rope.base, "rope_traditional": False, "rope_scaling": rope.to_mlx(),
            "tie_word_embeddings": bool(config.get("tie_word_embeddings")), "layer_types": None,
            "sliding_window": None, **self.mlx.words(config),
        }


def stated_context(config: Config) -> int:
    """Most positions in one sequence, as config.json says."""
    return int(config.get("max_position_embeddings") or _SMALLEST_CONTEXT)


def head_size(config: Config) -> int:
    """Width of one head of attention."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def block_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every weight without which no block of most kinds computes, by the end of its name. Of widths that
    config.json does not say, and libraries make up, nothing is said."""
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


def one_window(config: Config, window: int | None) -> list[int | None]:
    """`window` in every layer, or in those that `layer_types` names."""
    layers, types = int(config["num_hidden_layers"]), config.get("layer_types")
    if types is None:
        return [window] * layers
    return [window if kind == SLIDING else None for kind in types]


def switched_windows(config: Config) -> list[int | None]:
    """The windows of kinds that switch theirs on by `use_sliding_window`, in the layers from `max_window_layers` on
    where `layer_types` does not say which."""
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    if config.get("layer_types") is not None:
        return one_window(config, window)
    stated = config.get("max_window_layers")
    first = _FIRST_WINDOW if stated is None else int(stated)
    return [window if number >= first else None for number in range(int(config["num_hidden_layers"]))]


def shortened(config: Config, layers: int) -> dict[str, Any]:
    """`config` of the same model with its first `layers` alone."""
    own = int(config["num_hidden_layers"])
    cut = {key: value[:layers] for key, value in config.items() if key in ("layer_types", "no_rope_layers")
           and isinstance(value, list) and len(value) == own}
    return {**config, **cut, "num_hidden_layers": layers}


def _stated(config: Config, key: str) -> int:
    if not isinstance(config.get(key), int):
        raise ModelFileError(f"config.json lacks {key}")
    return int(config[key])
