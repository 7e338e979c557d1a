"""A model in llama.cpp's own terms: load, tokenize, pieces of text, and the context in which it computes.

Runs only in the child process. Every call here can end the process; nothing here catches that.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.engines.llama_cpp_native.context import ContextSettings, TokenBatch, make_context
from localdistill.engines.llama_cpp_native.matrix_units import hide_matrix_units
from localdistill.engines.llama_cpp_native.placement import described, layers_that_fit, look_at_devices
from localdistill.safety.text import display_safe

_ALL_LAYERS = 999
_DEBUG = 1
_HEARERS: list[Any] = []
"""Callbacks that llama.cpp may call as long as the process lives."""
_BUFFER_LINE = re.compile(r"(\S+) (model|KV) buffer size = +([0-9.]+) MiB")


class LoadFailure(Exception):
    """llama.cpp refused the model or could not make a context."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How a model is to be loaded."""

    path: str
    gpu_layers: int = -1
    """Layers on the GPU; -1 puts as many there as its free memory holds."""
    layer_bytes: tuple[int, ...] = ()
    """Weights of each block in order, and last those of the output; to find out how many fit."""
    kv_layer_bytes: int = 0
    """What the keys and values of one block will take."""
    repacks: bool = True
    """Let llama.cpp rearrange weights for the CPU. Faster, but it crashes on some machines."""
    matrix_units: bool = True
    """Let llama.cpp use AMX."""


class NativeModel:
    """A loaded model, and a context for `parallel` sequences and one more that keeps a shared prefix."""

    def __init__(self, settings: LoadSettings) -> None:
        if not settings.matrix_units:
            hide_matrix_units()
        import llama_cpp
        import numpy

        self.api: Any = llama_cpp
        self.settings = settings
        self._buffers: list[tuple[str, str, float]] = []
        self._listen()
        llama_cpp.llama_backend_init()
        self.devices, self.processor = look_at_devices()
        self.gpu_layers = 0
        self.model: Any = None
        self.context: Any = None
        self._load(settings)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.ends = bytearray(bool(llama_cpp.llama_vocab_is_eog(self.vocab, t)) for t in range(self.vocab_size))
        self._pieces: list[bytes | None] = [None] * self.vocab_size
        self._piece_buffer = ctypes.create_string_buffer(1024)
        self.batch = TokenBatch(llama_cpp, numpy, BORDERS.call_tokens)
        self.can_share_prefix = not (
            llama_cpp.llama_model_is_recurrent(self.model) or llama_cpp.llama_model_is_hybrid(self.model)
        )

    def _listen(self) -> None:
        """Send llama.cpp's messages to the log and remember on which devices weights and caches were put."""

        def heard(level: int, text: bytes, data: object) -> None:
            if level == _DEBUG:  # many lines for every graph
                return
            line = text.decode("utf-8", "replace")
            if found := _BUFFER_LINE.search(line):
                self._buffers.append((found[1], found[2], float(found[3])))
            sys.stderr.write(display_safe(line))

        _HEARERS.append(self.api.llama_log_callback(heard))
        self.api.llama_log_set(_HEARERS[-1], ctypes.c_void_p(0))

    def _load(self, settings: LoadSettings) -> None:
        for gpu_layers in self._layer_choices(settings):
            self._buffers.clear()
            params = self.api.llama_model_default_params()
            params.n_gpu_layers = gpu_layers
            params.use_extra_bufts = settings.repacks
            self.model = self.api.llama_model_load_from_file(os.fsencode(settings.path), params)
            if self.model:
                self.gpu_layers = min(gpu_layers, int(self.api.llama_model_n_layer(self.model)) + 1)
                return
        raise LoadFailure("llama.cpp refused the model")

    def _layer_choices(self, settings: LoadSettings) -> Iterator[int]:
        """How many layers to try on the GPU, best first."""
        if settings.gpu_layers >= 0 or not self.devices:
            yield max(0, settings.gpu_layers)
            return
        count = _ALL_LAYERS
        if settings.layer_bytes:
            free = [device.free_bytes for device in self.devices]
            count = layers_that_fit(settings.layer_bytes, settings.kv_layer_bytes, free)
        while count > 0:
            yield count
            count = min(count, len(settings.layer_bytes) or count) // 2
        yield 0

    def arrange(self, wanted: ContextSettings) -> None:
        """Make the context, with fewer sequences or cells where memory does not hold `wanted`. Raises LoadFailure."""
        if self.context:
            self.api.llama_free(self.context)
        self._buffers = [buffer for buffer in self._buffers if buffer[1] == "model"]
        while True:
            self.context = make_context(self.api, self.model, wanted)
            if self.context:
                break
            if wanted.parallel == 1:
                raise LoadFailure(f"there is not enough memory for a context of {wanted.context_tokens:,} tokens")
            pool = max(wanted.context_tokens, wanted.pool_tokens // 2) if wanted.pool_tokens else 0
            wanted = replace(wanted, parallel=wanted.parallel // 2, pool_tokens=pool)
        self.context_settings = wanted
        self.memory = self.api.llama_get_memory(self.context)
        self.parallel, self.unified, self.pool_tokens = wanted.parallel, wanted.unified, wanted.cells
        self.context_tokens = min(wanted.context_tokens, self.pool_tokens) if wanted.unified else wanted.context_tokens

    def device(self) -> str:
        """`cpu`, or the first other device that holds weights, for example `CUDA0`."""
        names = (name for name, kind, _ in self._buffers if kind == "model")
        return next((name for name in names if on_gpu(name)), "cpu")

    def facts(self) -> dict[str, Any]:
        """What the parent needs to know of the model."""
        buffer = ctypes.create_string_buffer(256)
        self.api.llama_model_desc(self.model, buffer, 256)
        template = self.api.llama_model_chat_template(self.model, None)
        return {
            "description": buffer.value.decode("utf-8", "replace"), "device": self.device(),
            "devices": described(self.devices), "processor": self.processor,
            "gpu_build": bool(self.api.llama_supports_gpu_offload()),
            "gpu_layers": self.gpu_layers, "layers": int(self.api.llama_model_n_layer(self.model)) + 1,
            "n_ctx_train": int(self.api.llama_model_n_ctx_train(self.model)), "vocab_size": self.vocab_size,
            "template": template.decode("utf-8", "replace") if template else "",
            "bos": self._text_of(self.api.llama_vocab_bos(self.vocab)),
            "eos": self._text_of(self.api.llama_vocab_eos(self.vocab)),
        }

    def context_facts(self) -> dict[str, Any]:
        """What became of the wanted context."""
        kv_mib = sum(size for _, kind, size in self._buffers if kind == "KV")
        return {
            "parallel": self.parallel, "context_tokens": self.context_tokens, "unified": self.unified,
            "kv_cells": self.pool_tokens, "kv_bytes": round(kv_mib * 1024 * 1024),
        }

    def _text_of(self, token: int) -> str:
        return self.piece(token).decode("utf-8", "replace") if 0 <= token < self.vocab_size else ""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens written in it are recognised, none is added."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (ctypes.c_int32 * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), ids, room, False, True)
        if count < 0:
            ids = (ctypes.c_int32 * -count)()
            count = self.api.llama_tokenize(self.vocab, data, len(data), ids, -count, False, True)
        return list(ids[:count])

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt, with exactly one BOS when the model wants one."""
        tokens = self.encode(prompt)
        bos = int(self.api.llama_vocab_bos(self.vocab))
        if bos < 0:
            return tokens
        leading = 0
        while leading < len(tokens) and tokens[leading] == bos:
            leading += 1
        wanted = 1 if leading or self.api.llama_vocab_get_add_bos(self.vocab) else 0
        return [bos] * wanted + tokens[leading:]

    def piece(self, token: int) -> bytes:
        """The bytes of one token; special tokens are shown, as think tags may be such."""
        known = self._pieces[token]
        if known is None:
            length = self.api.llama_token_to_piece(self.vocab, token, self._piece_buffer, 1024, 0, True)
            known = self._piece_buffer.raw[: max(0, length)]
            self._pieces[token] = known
        return known


def on_gpu(buffer: str) -> bool:
    """True when a buffer of this name lies on a GPU, and not just where a GPU can read what the CPU computes with."""
    return not buffer.startswith(("CPU", "AMX", "BLAS")) and not buffer.endswith("_Host")
