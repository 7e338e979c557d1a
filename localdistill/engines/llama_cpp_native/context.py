"""Contexts of a loaded model: how many sequences, how much KV cache, and how it is computed; and the batch that feeds
them. Runs only in the child process."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from localdistill.core.borders import BORDERS

UBATCH_TOKENS = 512
_CELL_BLOCK = 256
_KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
"""Name to ggml's number of the type."""


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """What a context is to be like."""

    parallel: int = 1
    """Sequences at once, besides the one that keeps a shared prefix."""
    context_tokens: int = _CELL_BLOCK
    """Most tokens of one sequence, prompt and reply."""
    unified: bool = False
    """One KV cache for all sequences instead of one for each."""
    pool_tokens: int = 0
    """Cells of the unified cache; 0 gives every sequence its whole context."""
    threads: int = 1
    flash_attention: bool | None = None
    """None lets llama.cpp decide."""
    kv_type: str = "f16"

    @property
    def cells(self) -> int:
        """Size of the KV cache in tokens."""
        if self.unified:
            return rounded_up(self.pool_tokens or self.context_tokens * self.parallel)
        return spread_cells(self.context_tokens) * (self.parallel + 1)


def rounded_up(tokens: int) -> int:
    """The next multiple of what llama.cpp allocates at once."""
    return -(-tokens // _CELL_BLOCK) * _CELL_BLOCK


def spread_cells(context_tokens: int) -> int:
    """Cells of one separate cache: an odd number of blocks, because rows that lie a power of two apart fall into the
    same few lines of a CPU's cache (measured: up to 15 % of the speed of a small model)."""
    blocks = rounded_up(context_tokens) // _CELL_BLOCK
    return (blocks + 1 - blocks % 2) * _CELL_BLOCK


def make_context(api: Any, model: Any, settings: ContextSettings) -> Any | None:
    """A llama_context, or None when there is not enough memory."""
    params = api.llama_context_default_params()
    params.n_seq_max = settings.parallel + 1
    params.n_ctx = settings.cells
    params.n_batch, params.n_ubatch = BORDERS.call_tokens, UBATCH_TOKENS
    params.n_threads = params.n_threads_batch = settings.threads
    params.kv_unified = settings.unified
    params.swa_full = True  # sequences are copied and cut at any position
    params.type_k = params.type_v = _KV_TYPES[settings.kv_type]
    params.flash_attn_type = -1 if settings.flash_attention is None else int(settings.flash_attention)
    return api.llama_init_from_model(model, params) or None


class TokenBatch:
    """A llama_batch whose fields are numpy arrays, so that a step fills them in a few assignments."""

    def __init__(self, api: Any, numpy: Any, size: int) -> None:
        self._tokens = numpy.zeros(size, numpy.int32)
        self._positions = numpy.zeros(size, numpy.int32)
        self._counts = numpy.ones(size, numpy.int32)
        self._sequences = numpy.zeros(size, numpy.int32)
        self._outputs = numpy.zeros(size, numpy.int8)
        self._pointers = (self._sequences.ctypes.data + 4 * numpy.arange(size)).astype(numpy.uint64)
        self._struct = api.llama_batch()
        for name, array in (("token", self._tokens), ("pos", self._positions), ("n_seq_id", self._counts),
                            ("seq_id", self._pointers), ("logits", self._outputs)):
            kind = dict(api.llama_batch._fields_)[name]
            setattr(self._struct, name, ctypes.cast(array.ctypes.data, kind))

    def filled(self, tokens: list[int], positions: list[int], sequences: list[int], outputs: list[int]) -> Any:
        """The struct for llama_decode. `outputs` are the rows whose logits are wanted, ascending."""
        count = len(tokens)
        self._tokens[:count] = tokens
        self._positions[:count] = positions
        self._sequences[:count] = sequences
        self._outputs[:count] = 0
        self._outputs[outputs] = 1
        self._struct.n_tokens = count
        return self._struct
