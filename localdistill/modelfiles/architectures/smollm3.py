"""SmolLM3: a Llama in which every fourth layer does not know where its tokens stand."""

from __future__ import annotations

from localdistill.modelfiles.architectures.base import (
    FULL,
    Architecture,
    Config,
    GgufKind,
    MlxKind,
    switched_windows,
)
from localdistill.modelfiles.architectures.llama import BIASES
from localdistill.modelfiles.architectures.rope import read_rope

EVERY = 4
"""llama.cpp takes the positions from each such layer, whatever the file says."""


def _with_positions(config: Config) -> list[int]:
    """1 for every layer that rotates, else 0."""
    layers, stated = int(config["num_hidden_layers"]), config.get("no_rope_layers")
    if isinstance(stated, list):
        return [int(bool(one)) for one in stated]
    every = int(config.get("no_rope_layer_interval") or EVERY)
    return [int((number + 1) % every != 0) for number in range(layers)]


def _windows(config: Config) -> list[int | None]:
    """Without `layer_types`, those that do not rotate are the ones with a window."""
    if config.get("layer_types") is not None:
        return switched_windows(config)
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    return [None if rotates else window for rotates in _with_positions(config)]


def _refuse_gguf(config: Config) -> str:
    usual = [int((number + 1) % EVERY != 0) for number in range(int(config["num_hidden_layers"]))]
    return "" if _with_positions(config) == usual else f"other layers than every {EVERY}th have no positions"


ARCHITECTURE = Architecture(
    name="SmolLM3ForCausalLM", model_type="smollm3", config_class="SmolLM3Config", models="SmolLM3",
    windows=_windows, defaults={"tie_word_embeddings": True},
    ropes=lambda config: {FULL: read_rope(config, 2_000_000.0)},
    gguf=GgufKind("smollm3", BIASES, rotates_pairs=True, refuse=_refuse_gguf),
    mlx=MlxKind("smollm3", "llama", words=lambda config: {"no_rope_layers": _with_positions(config)},
                least_layers=lambda config: 1 + [*_with_positions(config), 0].index(0)),
    tiny={"num_hidden_layers": 4})
