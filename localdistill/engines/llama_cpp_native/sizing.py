"""How much memory a model's parts and its KV cache take, and which cache layout a set of requests asks for.
Arithmetic on a checked header; loads nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.engines.llama_cpp_native.context import ContextSettings, rounded_up
from localdistill.modelfiles.gguf_header import GgufHeader

_BLOCK_TENSOR = re.compile(r"blk\.(\d+)\.")
_CELL_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
_DEFAULT_CONTEXT_TOKENS = 4096
_MAIN_MEMORY_SHARE = 0.5
_GPU_MEMORY_SHARE = 0.85
_UNIFIED_ADVANTAGE = 2.0
"""A unified cache lets every sequence look past the cells of all; up to so many times its own that costs less than
what is saved by reading shared ones once."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What a model's parts take."""

    layer_bytes: tuple[int, ...]
    """Weights of each block in order, and last those of the output."""
    kv_token_bytes: int
    """Keys and values of one token in all blocks; 0 when the header does not say."""
    trained_tokens: int

    @property
    def kv_layer_token_bytes(self) -> int:
        """Keys and values of one token in one block."""
        return self.kv_token_bytes // max(1, len(self.layer_bytes) - 1)


@dataclass(frozen=True, slots=True)
class Weights:
    """What requests weigh, in tokens."""

    total: int
    """Of all prompts."""
    unique: int
    """Of all prompts, what they have in common counted once."""
    count: int
    max_tokens: int
    """Longest reply that is asked for."""


def sizes_of(header: GgufHeader, kv_type: str) -> ModelSizes:
    """The sizes that a header tells."""
    blocks = _number(header, "block_count")
    layers = [0] * (blocks + 1)
    embedding = 0
    for tensor in header.tensors:
        if (found := _BLOCK_TENSOR.match(tensor.name)) and int(found[1]) < blocks:
            layers[int(found[1])] += tensor.size_bytes
        elif tensor.name == "token_embd.weight":
            embedding = tensor.size_bytes
        else:
            layers[-1] += tensor.size_bytes
    if not any(tensor.name == "output.weight" for tensor in header.tensors):
        layers[-1] += embedding  # tied weights are copied to where the output is computed
    heads = _number(header, "attention.head_count")
    width = _number(header, "attention.key_length") or (_number(header, "embedding_length") // heads if heads else 0)
    kv_heads = _number(header, "attention.head_count_kv") or heads
    token_bytes = round(blocks * 2 * kv_heads * width * _CELL_BYTES[kv_type])
    return ModelSizes(tuple(layers), token_bytes, _number(header, "context_length") or _DEFAULT_CONTEXT_TOKENS)


def _number(header: GgufHeader, key: str) -> int:
    value = header.metadata.get(f"{header.architecture}.{key}", 0)
    if isinstance(value, list):
        return max((int(v) for v in value if isinstance(v, int)), default=0)
    return int(value) if isinstance(value, int) else 0


def context_of(wanted: int, sizes: ModelSizes) -> int:
    """Tokens of one sequence: as wanted, or what the model was trained for, at most 4096."""
    return wanted or min(sizes.trained_tokens, _DEFAULT_CONTEXT_TOKENS)


def kv_budget_tokens(sizes: ModelSizes, facts: Mapping[str, Any], free_main_bytes: int, file_bytes: int) -> int | None:
    """How many tokens' keys and values the memory may hold where the model lies; None when that is not known."""
    if not sizes.kv_token_bytes:
        return None
    if facts["device"] == "cpu":
        room = max(0.0, free_main_bytes - file_bytes) * _MAIN_MEMORY_SHARE
    else:
        offloaded = file_bytes * facts["gpu_layers"] / max(1, facts["layers"])
        room = max(0.0, sum(d["free_bytes"] for d in facts["devices"]) - offloaded) * _GPU_MEMORY_SHARE
    return int(room) // sizes.kv_token_bytes


def laid_out(base: ContextSettings, layout: str, pool_tokens: int, budget: int | None,
             weights: Weights | None, prefers_unified: bool = False) -> ContextSettings:
    """`base` with the layout that suits.

    `layout` is `split`, `unified` or `auto`, `pool_tokens` the pool that the user wants or 0, `budget` what memory
    holds. `auto` takes one unified pool when separate caches would not fit beside each other, when a pool is named,
    when the requests have so much in common that their cells are mostly the same, or when it was measured to be
    faster.
    """
    context = base.context_tokens
    fits = budget is None or budget >= context * (base.parallel + 1)
    shares = weights is not None and _shares(weights, base.parallel)
    if layout == "split" or (layout == "auto" and fits and not (shares or pool_tokens or prefers_unified)):
        most = base.parallel if budget is None else max(1, budget // context - 1)
        return _replaced(base, parallel=min(base.parallel, most), unified=False, pool_tokens=0)
    pool = pool_tokens or context * (base.parallel + 1)
    if weights is not None and not pool_tokens and layout == "auto" and shares:
        sequences = base.parallel / max(1, min(base.parallel, weights.count))
        pool = min(pool, int(weights.unique * sequences) + base.parallel * weights.max_tokens)
    if budget is not None and not pool_tokens:
        pool = min(pool, budget)
    return _replaced(base, parallel=base.parallel, unified=True, pool_tokens=rounded_up(max(pool, context)))


def _shares(weights: Weights, parallel: int) -> bool:
    if weights.count < 2 or weights.unique > weights.total / 2:
        return False
    prompt, own = weights.total / weights.count, weights.max_tokens / 2
    at_once = min(parallel, weights.count)
    together = max(prompt, weights.unique * at_once / weights.count) + at_once * own
    return together <= _UNIFIED_ADVANTAGE * (prompt + own)


def _replaced(base: ContextSettings, parallel: int, unified: bool, pool_tokens: int) -> ContextSettings:
    return ContextSettings(parallel, base.context_tokens, unified, pool_tokens, base.threads, base.flash_attention,
                           base.kv_type)
