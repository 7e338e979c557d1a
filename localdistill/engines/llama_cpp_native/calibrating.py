"""Auto-tuning: measures which threads, attention and cache layout are the fastest for a loaded model on this machine.
Also tries a model once, so that where it makes llama.cpp crash, that happens here. Runs only in the child process."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.model import LoadFailure, NativeModel

_WARM_UP_TOKENS = 64
_DEPTH_TOKENS = 128
"""What every sequence holds while steps are timed."""
_STEPS = 6
_LEAST_GAIN = 0.03
"""A default is only left for something that is faster by this share."""
_LEAST_UNIFIED_GAIN = 0.1
"""More for a unified cache: it loses the more, the longer replies become, and trials are short."""


def warm_up(model: NativeModel) -> None:
    """Evaluate a batch of one token and one of many in a small context."""
    model.arrange(ContextSettings(threads=1))
    for count in (1, _WARM_UP_TOKENS):
        _evaluate(model, [0] * count, list(range(count)), [0] * count, [count - 1])
        model.api.llama_memory_seq_rm(model.memory, 0, -1, -1)


def calibrate(model: NativeModel, parallel: int, threads: list[int], kv_type: str, budget_s: float) -> dict[str, Any]:
    """What is fastest for `parallel` sequences. Stops trying when `budget_s` is spent; what was not tried is left out.

    Returns threads, flash_attention, unified (None: not tried), the rates in tokens/s of everything tried under
    `rates`, `elapsed_s`.
    """
    trial = _Trial(model, budget_s)
    base = ContextSettings(parallel, _DEPTH_TOKENS + 64, threads=threads[0], kv_type=kv_type,
                           flash_attention=kv_type != "f16")
    best = base
    for count in threads[1:]:
        best = trial.better_of(best, replace(best, threads=count))
    if kv_type == "f16":
        best = trial.better_of(best, replace(best, flash_attention=True))
    split = best
    best = trial.better_of(best, replace(best, unified=True), _LEAST_UNIFIED_GAIN)
    return {
        "threads": best.threads, "unified": best.unified if trial.tried(replace(split, unified=True)) else None,
        "flash_attention": best.flash_attention if trial.tried(replace(split, flash_attention=True)) else None,
        "rates": trial.rates, "elapsed_s": trial.elapsed_s(),
    }


class _Trial:
    """Times decoding steps in contexts of different settings."""

    def __init__(self, model: NativeModel, budget_s: float) -> None:
        self._model = model
        self._begin = time.perf_counter()
        self._budget_s = budget_s
        self._known: dict[ContextSettings, float] = {}
        self._fill_s = self._steps_s = 0.0

    def elapsed_s(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._begin

    def tried(self, settings: ContextSettings) -> bool:
        """True when `settings` were timed."""
        return settings in self._known

    @property
    def rates(self) -> dict[str, float]:
        """Description to tokens per second."""
        return {
            f"{'unified' if s.unified else 'split'} cache, flash attention {'on' if s.flash_attention else 'off'}, "
            f"{s.threads} threads": round(rate, 1)
            for s, rate in self._known.items()
        }

    def better_of(self, current: ContextSettings, other: ContextSettings,
                  least_gain: float = _LEAST_GAIN) -> ContextSettings:
        """`other` when it is clearly faster and there is time to find out."""
        rate = self.rate_of(current)
        if rate is None or self.elapsed_s() + self._expected_s(other) > self._budget_s:
            return current
        found = self.rate_of(other)
        return other if found is not None and found > rate * (1 + least_gain) else current

    def _expected_s(self, settings: ContextSettings) -> float:
        """How long timing `settings` will take, from what was timed before."""
        return self._fill_s * (settings.parallel if settings.unified else 1) + self._steps_s

    def rate_of(self, settings: ContextSettings) -> float | None:
        """Tokens per second of steps in which every sequence gets one token; None when there is no memory for it."""
        if settings in self._known:
            return self._known[settings]
        try:
            self._model.arrange(settings)
        except LoadFailure:
            return None
        if self._model.parallel < settings.parallel:
            return None
        rate = self._known[settings] = self._timed(settings.parallel)
        return rate

    def _timed(self, parallel: int) -> float:
        """From the quickest of some steps."""
        model, slots = self._model, list(range(parallel))
        begin = time.perf_counter()
        self._fill()
        filled = time.perf_counter()
        quickest_s = float("inf")
        for turn in range(_STEPS):
            step_begin = time.perf_counter()
            _evaluate(model, [0] * parallel, [_DEPTH_TOKENS + turn] * parallel, slots, slots)
            quickest_s = min(quickest_s, time.perf_counter() - step_begin)
        if not model.unified:
            self._fill_s = filled - begin
        self._steps_s = time.perf_counter() - filled
        return parallel / quickest_s

    def _fill(self) -> None:
        """Give every sequence cells of its own. What is in them does not matter to the speed, so only the first
        sequence is evaluated where caches are separate; a unified one needs own cells for each."""
        model = self._model
        for slot in range(model.parallel if model.unified else 1):
            _evaluate(model, [0] * _DEPTH_TOKENS, list(range(_DEPTH_TOKENS)), [slot] * _DEPTH_TOKENS,
                      [_DEPTH_TOKENS - 1])
        if not model.unified:
            for slot in range(1, model.parallel):
                model.api.llama_memory_seq_cp(model.memory, 0, slot, -1, -1)


def _evaluate(model: NativeModel, tokens: list[int], positions: list[int], slots: list[int],
              outputs: list[int]) -> None:
    for begin in range(0, len(tokens), BORDERS.call_tokens):
        end = begin + BORDERS.call_tokens
        batch = model.batch.filled(tokens[begin:end], positions[begin:end], slots[begin:end],
                                   [place - begin for place in outputs if begin <= place < end])
        if code := model.api.llama_decode(model.context, batch):
            raise LoadFailure(f"llama_decode returned {code}")
    model.api.llama_get_logits(model.context)  # waits for the device
