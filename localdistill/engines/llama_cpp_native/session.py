"""A model file in use: children that hold it, what was measured of it, and the context that suits what is asked.

The parent's side of every decision on memory and speed; all of them are told to the caller as events."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from localdistill.core.disk import size_text
from localdistill.core.errors import ModelFileError
from localdistill.core.events import Cancel, Emit, Noted, Warned, silent
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.model import LoadSettings
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.pool import ClientPool
from localdistill.engines.llama_cpp_native.sequence import NativeRequest
from localdistill.engines.llama_cpp_native.sizing import Weights, context_of, kv_budget_tokens, laid_out, sizes_of
from localdistill.engines.llama_cpp_native.tuning import Tuning, TuningFile, tuning_key
from localdistill.modelfiles.gguf_files import open_gguf

_SMALL_MODEL_BYTES = 64 * 1024 * 1024
_ARCHITECTURE_LIMIT = 1024
_GPU_PLANNED_SEQUENCES = 4
CALIBRATION_S = 8.0


class NativeSession:
    """Children with the model of `options` loaded. Raises ModelFileError when the file cannot be used."""

    def __init__(self, options: LlamaCppOptions, cancel: Cancel, emit: Emit) -> None:
        self._options = options
        self._path = Path(options.model)
        header = open_gguf(self._path, max_array=_ARCHITECTURE_LIMIT).header
        self._file_bytes = header.size_bytes
        self._sizes = sizes_of(header, options.kv_type)
        self.context_tokens = context_of(options.context_tokens, self._sizes)
        self.is_small = self._file_bytes < _SMALL_MODEL_BYTES
        self._processes = options.processes or (cores() if self.is_small else 1)
        planned = self.context_tokens * min(options.parallel, _GPU_PLANNED_SEQUENCES)
        self.pool = ClientPool(LoadSettings(
            path=str(self._path), gpu_layers=options.gpu_layers, layer_bytes=self._sizes.layer_bytes,
            kv_layer_bytes=self._sizes.kv_layer_token_bytes * planned,
        ), self._processes)
        self._context: ContextSettings | None = None
        try:
            facts = self.pool.start(cancel)
            self._say_where(facts, emit)
            self._say_length(emit)
            self._budget = self._kv_budget(facts)
            self.tuning = self._tuned(cancel, emit) if options.tune == "auto" and not self.is_small else None
        except BaseException:
            self.pool.close()
            raise

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the model and, after `lay_out`, of its context."""
        return self.pool.facts

    def lay_out(self, requests: Sequence[NativeRequest], cancel: Cancel, emit: Emit = silent) -> dict[str, Any]:
        """Make a context that suits `requests`, the first of many; the present one stays when it does. Facts."""
        texts = [text for request in requests for text in request.texts]
        if self._context is not None and len(texts) < 2:
            return self.pool.arrange(self._context, cancel)
        weights = None
        if self._options.kv_layout != "split" and len(texts) > 1:
            counts = self.pool.first.weigh(texts, cancel)
            weights = Weights(max_tokens=max(request.max_tokens for request in requests), **counts)
        tuning, options = self.tuning, self._options
        wanted = laid_out(self._base(), options.kv_layout, options.kv_tokens, self._budget, weights,
                          prefers_unified=bool(tuning and tuning.unified))
        if not self._serves(wanted):
            self._context = wanted
            facts = self._arranged(wanted, cancel)
            self._say_layout(facts, emit)
            return facts
        assert self._context is not None
        return self.pool.arrange(self._context, cancel)

    def tune(self, cancel: Cancel, emit: Emit) -> Tuning:
        """Measure what is fastest here, and remember it."""
        file, key = self._tuning_place()
        emit(Noted(f"measuring what is fastest for {self._path.name} on this machine (once, some seconds)"))
        options = self._options
        found = self.pool.first.calibrate(
            cancel, parallel=min(options.parallel, 16), kv_type=options.kv_type, budget_s=CALIBRATION_S,
            threads=[options.threads] if options.threads else thread_choices(cores(), os.cpu_count() or 1))
        self._context = None
        tuning = Tuning(**{name: found[name] for name in
                           ("threads", "flash_attention", "unified", "rates", "elapsed_s")})
        file.keep(key, tuning)
        self.tuning = tuning
        best = max(tuning.rates, key=lambda name: tuning.rates[name], default="nothing")
        emit(Noted(f"fastest: {best}, {tuning.best_rate:,.0f} tokens/s in {len(tuning.rates)} trials"))
        return tuning

    def close(self) -> None:
        """End the children."""
        self.pool.close()

    def _tuned(self, cancel: Cancel, emit: Emit) -> Tuning:
        file, key = self._tuning_place()
        return file.find(key) or self.tune(cancel, emit)

    def _tuning_place(self) -> tuple[TuningFile, str]:
        file = TuningFile()
        options = self._options
        key = tuning_key(file.digest(self._path), self.facts, min(options.parallel, 16), options.kv_type, cores())
        return file, key

    def _base(self) -> ContextSettings:
        """Threads and attention: as told, else as measured, else what usually is fastest."""
        options, tuning = self._options, self.tuning
        flash = options.flash_attention
        if flash is None and tuning is not None:
            flash = tuning.flash_attention
        if options.kv_type != "f16":
            flash = True
        elif flash is None and self.facts["device"] == "cpu":
            flash = False
        threads = options.threads or (tuning.threads if tuning else 1 if self.is_small else cores())
        return ContextSettings(options.parallel, self.context_tokens, threads=threads, flash_attention=flash,
                               kv_type=options.kv_type)

    def _serves(self, wanted: ContextSettings) -> bool:
        """True when the present context is like `wanted`, or has a larger pool."""
        held = self._context
        if held is None or held.unified != wanted.unified:
            return False
        return held == wanted or (held.unified and held.pool_tokens >= wanted.pool_tokens)

    def _kv_budget(self, facts: dict[str, Any]) -> int | None:
        budget = kv_budget_tokens(self._sizes, facts, psutil.virtual_memory().available, self._file_bytes)
        return None if budget is None else budget // self._processes

    def _say_where(self, facts: dict[str, Any], emit: Emit) -> None:
        names = ", ".join(f"{d['description']}, {d['free_bytes'] / 1e9:.1f} GB free" for d in facts["devices"])
        if facts["device"] != "cpu":
            emit(Noted(f"{facts['gpu_layers']} of {facts['layers']} layers on {facts['device']} ({names})"))
        elif facts["devices"] and self._options.gpu_layers:
            emit(Warned(f"the model runs on the CPU although there is a GPU ({names})",
                        "its memory is taken by others, or is too small for a single layer"))

    def _arranged(self, wanted: ContextSettings, cancel: Cancel) -> dict[str, Any]:
        """Facts about the new context. ModelFileError with the figures when memory does not hold a single sequence."""
        try:
            return self.pool.arrange(wanted, cancel)
        except ModelFileError as error:
            if "memory for a context" not in error.message:
                raise
            free = psutil.virtual_memory().available
            raise ModelFileError(
                f"{self._path}: memory does not hold a context of {self.context_tokens:,} tokens: its keys and values "
                f"take {size_text(self.context_tokens * self._sizes.kv_token_bytes)} of the {size_text(free)} that are "
                "free", "lower context_tokens, set kv_type to q8_0, or end other programs") from error

    def _say_length(self, emit: Emit) -> None:
        if self.context_tokens > self._sizes.trained_tokens:
            emit(Warned(f"context_tokens = {self.context_tokens:,} is more than the {self._sizes.trained_tokens:,} "
                        f"that {self._path.name} was trained for: what lies beyond them may make no sense",
                        f"context_tokens = {self._sizes.trained_tokens}"))

    def _say_layout(self, facts: dict[str, Any], emit: Emit) -> None:
        wanted = self._options.parallel
        if facts["parallel"] < wanted:
            emit(Warned(f"memory holds {facts['parallel']} of {wanted} sequences at once",
                        "lower context_tokens, or set kv_type to q8_0, to run more of them"))
        kind = f"one cache of {facts['kv_cells']:,} tokens for all" if facts["unified"] else (
            f"a cache of {facts['context_tokens']:,} tokens each")
        emit(Noted(f"{facts['parallel']} sequences at once, {kind}, {facts['kv_bytes'] / 1e6:,.0f} MB"))


def thread_choices(physical: int, logical: int) -> list[int]:
    """Thread counts worth trying, the usual one first."""
    choices = [physical, physical - 1, physical // 2, logical]
    return [count for count in dict.fromkeys(choices) if count >= 1]


def cores() -> int:
    """Physical cores."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1
