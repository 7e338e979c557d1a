"""A model and its context in llama.cpp's own terms: load, tokenize, pieces of text, samplers, one batch.

Runs only in the child process. Every call here can end the process; nothing here catches that.
"""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from typing import Any

from localdistill.engines.llama_cpp_native.sequence import Question

BATCH_TOKENS = 2048
_UBATCH_TOKENS = 512
_ALL_LAYERS = 999
_DEFAULT_CONTEXT_TOKENS = 4096
_BUFFER_LINE = re.compile(r"(\S+) model buffer size")


class LoadFailure(Exception):
    """llama.cpp refused the model or could not make a context."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What the engine's options mean to llama.cpp."""

    path: str
    parallel: int
    context_tokens: int
    threads: int
    gpu_layers: int
    flash_attention: bool | None
    repacks: bool = True
    """Let llama.cpp rearrange weights for the CPU's matrix units. Faster, but it crashes on some machines."""
    unified: bool = False
    """One KV cache for all sequences instead of one for each."""


class NativeModel:
    """A loaded model with a context for `parallel` sequences and one more that keeps a shared prefix."""

    def __init__(self, settings: LoadSettings) -> None:
        import llama_cpp
        import numpy

        self.api: Any = llama_cpp
        self.settings = settings
        self._buffers: list[str] = []
        self._listen()
        llama_cpp.llama_backend_init()
        self._load(settings)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self.ends = bytearray(bool(llama_cpp.llama_vocab_is_eog(self.vocab, t)) for t in range(self.vocab_size))
        self._pieces: list[bytes | None] = [None] * self.vocab_size
        self._piece_buffer = ctypes.create_string_buffer(1024)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = TokenBatch(llama_cpp, numpy, BATCH_TOKENS)
        self.can_share_prefix = not (
            llama_cpp.llama_model_is_recurrent(self.model) or llama_cpp.llama_model_is_hybrid(self.model)
        )

    def _listen(self) -> None:
        """Send llama.cpp's messages to the log and remember on which devices weights were put."""

        def heard(level: int, text: bytes, data: object) -> None:
            line = text.decode("utf-8", "replace")
            if found := _BUFFER_LINE.search(line):
                self._buffers.append(found[1])
            sys.stderr.write(line)

        self._callback = self.api.llama_log_callback(heard)
        self.api.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _load(self, settings: LoadSettings) -> None:
        layers = _ALL_LAYERS if settings.gpu_layers < 0 else settings.gpu_layers
        attempts = [layers, 0] if settings.gpu_layers < 0 and self.api.llama_supports_gpu_offload() else [layers]
        for gpu_layers in attempts:
            self._buffers.clear()
            params = self.api.llama_model_default_params()
            params.n_gpu_layers = gpu_layers
            params.use_extra_bufts = settings.repacks
            self.model = self.api.llama_model_load_from_file(settings.path.encode(), params)
            if self.model and self._make_context(settings):
                return
        raise LoadFailure("there is not enough memory for a context" if self.model else "llama.cpp refused the model")

    def _make_context(self, settings: LoadSettings) -> bool:
        trained = int(self.api.llama_model_n_ctx_train(self.model)) or _DEFAULT_CONTEXT_TOKENS
        self.context_tokens = settings.context_tokens or min(trained, _DEFAULT_CONTEXT_TOKENS)
        self.parallel = settings.parallel
        while self.parallel >= 1:
            params = self.api.llama_context_default_params()
            params.n_seq_max = self.parallel + 1
            params.n_ctx = self.context_tokens * (self.parallel + 1)
            params.n_batch, params.n_ubatch = BATCH_TOKENS, _UBATCH_TOKENS
            params.n_threads = params.n_threads_batch = settings.threads
            params.kv_unified = settings.unified
            params.swa_full = True  # sequences are copied and cut at any position
            params.flash_attn_type = self._flash_attention(settings)
            self.context = self.api.llama_init_from_model(self.model, params)
            if self.context:
                return True
            self.parallel //= 2
        self.api.llama_model_free(self.model)
        return False

    def _flash_attention(self, settings: LoadSettings) -> int:
        """On CPUs llama.cpp's flash attention is the slower of the two; elsewhere it decides itself."""
        if settings.flash_attention is not None:
            return int(settings.flash_attention)
        return -1 if self.api.llama_supports_gpu_offload() else 0

    def device(self) -> str:
        """`cpu`, or the first other device that holds weights, for example `CUDA0`."""
        return next((name for name in self._buffers if not name.startswith("CPU")), "cpu")

    def facts(self) -> dict[str, Any]:
        """What the parent needs to know of the model."""
        buffer = ctypes.create_string_buffer(256)
        self.api.llama_model_desc(self.model, buffer, 256)
        template = self.api.llama_model_chat_template(self.model, None)
        return {
            "description": buffer.value.decode("utf-8", "replace"), "device": self.device(),
            "n_ctx_train": int(self.api.llama_model_n_ctx_train(self.model)), "vocab_size": self.vocab_size,
            "parallel": self.parallel, "context_tokens": self.context_tokens,
            "template": template.decode("utf-8", "replace") if template else "",
            "bos": self._text_of(self.api.llama_vocab_bos(self.vocab)),
            "eos": self._text_of(self.api.llama_vocab_eos(self.vocab)),
        }

    def _text_of(self, token: int) -> str:
        return self.piece(token).decode("utf-8", "replace") if 0 <= token < self.vocab_size else ""

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt, with exactly one BOS when the model wants one."""
        data = prompt.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (ctypes.c_int32 * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), ids, room, False, True)
        if count < 0:
            ids = (ctypes.c_int32 * -count)()
            count = self.api.llama_tokenize(self.vocab, data, len(data), ids, -count, False, True)
        tokens = list(ids[:count])
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

    def sampler(self, question: Question) -> Any | None:
        """A sampler chain for one sequence, or None for greedy. Temperature comes before top-p, as everywhere but in
        llama.cpp's own order, so that the same numbers mean the same distribution in every engine."""
        if question.temperature <= 0:
            return None
        api = self.api
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if question.top_k > 0:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_k(question.top_k))
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(question.temperature))
        if question.top_p < 1:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_p(question.top_p, 1))
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(question.seed))
        return chain


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
