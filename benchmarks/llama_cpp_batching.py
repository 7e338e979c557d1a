"""The llama_cpp engine against a loop over llama-cpp-python's `Llama`, and against a bare loop over llama_decode.

    python benchmarks/llama_cpp_batching.py FOLDER [--quants Q8_0 Q4_0] [--parts loop bare samples] [--repeats 3]

loop: 32 prompts with a common system prompt, 128 new tokens each, end to end: the engine / a loop over `Llama`, which
    keeps the common beginning of one prompt and the next in its cache. Same file, threads and number of tokens.
bare: the same work at the same width without any of our bookkeeping: the engine / a bare loop over llama_decode.
samples: eight samples over a common prefix of 1,000 tokens: batches that share it / that do not; and the memory.

The peer has the best settings that we know for it, not its defaults (one thread on two cores). Models of random
weights are written to FOLDER on first use.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from itertools import count, islice
from pathlib import Path
from typing import Any

import machine
from llama_cpp_model import model_of

from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.batching import Batcher
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.matrix_units import hide_matrix_units
from localdistill.engines.llama_cpp_native.model import LoadSettings, NativeModel
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.sequence import NativeRequest

PROMPTS = 32
SYSTEM = "You solve small riddles. " * 4
SAMPLES, PREFIX_TOKENS, SAMPLE_TOKENS = 8, 1000, 32
TARGETS = {"Q8_0": "2.3x, 3x within reach", "Q4_0": "1.6x"}


def requests(new_tokens: int) -> list[Request]:
    """32 questions of some 60 tokens behind one system prompt."""
    sampling = Sampling(max_tokens=new_tokens)
    return [
        Request(str(n), (Message("system", SYSTEM), Message("user", f"Riddle {n:03d}: what is {n} and {n}?")), sampling)
        for n in range(PROMPTS)
    ]


def rendered(request: Request) -> str:
    """The prompt as the model's template writes it."""
    turns = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in request.messages)
    return turns + "<|im_start|>assistant\n"


def engine_run(engine: LlamaCppEngine, new_tokens: int) -> None:
    """Answer everything with the engine."""
    replies = list(engine.answer(requests(new_tokens), silent, Cancel()))
    written = sum(reply.usage.completion_tokens for reply in replies)
    assert written == PROMPTS * new_tokens, f"the engine wrote {written} tokens"


def loop_run(llama: Any, new_tokens: int) -> None:
    """Answer everything with `Llama`, one after the other."""
    for request in requests(new_tokens):
        tokens = llama.tokenize(rendered(request).encode(), add_bos=False, special=True)
        written = sum(1 for _ in islice(llama.generate(tokens, temp=0.0, repeat_penalty=1.0), new_tokens))
        assert written == new_tokens, f"Llama wrote {written} tokens"


def bare_run(model: NativeModel, new_tokens: int) -> None:
    """All prompts in one batch after their common beginning, then a batch of one token for each, and argmax."""
    import numpy

    api, width = model.api, PROMPTS
    api.llama_memory_clear(model.memory, True)
    prompts = [model.tokenize(rendered(request)) for request in requests(new_tokens)]
    common = next(n for n in range(len(prompts[0])) if len({tuple(p[: n + 1]) for p in prompts}) > 1)
    decode(model, prompts[0][:common], range(common), [width] * common, [])
    for slot in range(width):
        api.llama_memory_seq_cp(model.memory, width, slot, -1, -1)
    tokens = [token for prompt in prompts for token in prompt[common:]]
    positions = [place for prompt in prompts for place in range(common, len(prompt))]
    slots = [slot for slot, prompt in enumerate(prompts) for _ in prompt[common:]]
    ends = [index for index in range(len(slots)) if index + 1 == len(slots) or slots[index] != slots[index + 1]]
    decode(model, tokens, positions, slots, ends)
    for step in range(new_tokens):
        address: Any = ctypes.cast(api.llama_get_logits(model.context),
                              ctypes.POINTER(ctypes.c_float * (width * model.vocab_size)))
        best = numpy.frombuffer(address.contents, numpy.float32).reshape(width, -1).argmax(axis=1).tolist()
        if step + 1 < new_tokens:
            places = [len(prompt) + step for prompt in prompts]
            decode(model, best, places, range(width), range(width))


def decode(model: NativeModel, tokens: Any, positions: Any, slots: Any, outputs: Any) -> None:
    """One llama_decode."""
    filled = model.batch.filled(list(tokens), list(positions), list(slots), list(outputs))
    code = model.api.llama_decode(model.context, filled)
    assert code == 0, f"llama_decode returned {code}"


def sample_run(batcher: Batcher, run: int) -> None:
    """Eight samples of one prompt of 1,000 tokens, another one in every run: none finds the prefix of the last."""
    prompt = "".join(chr(97 + (n * n + run) % 26) for n in range(PREFIX_TOKENS))
    for number in range(SAMPLES):
        batcher.add(NativeRequest(number, prompt, SAMPLE_TOKENS, temperature=1.0, seed=number))
    written = 0
    while batcher.is_busy():
        written += len(batcher.step())
    assert written == SAMPLES * SAMPLE_TOKENS, f"{written} tokens were written"


class Measurement:
    """The comparisons for one file."""

    def __init__(self, path: Path, quant: str, repeats: int, new_tokens: int) -> None:
        import psutil

        self._path, self._quant, self._repeats, self._new_tokens = path, quant, repeats, new_tokens
        self._threads = psutil.cpu_count(logical=False) or 1
        options = LlamaCppOptions(model=str(path), parallel=PROMPTS, context_tokens=512, tune="off")
        self._engine = LlamaCppEngine(options)
        facts = self._engine.probe()
        self._repacks = facts["repacks"]
        if not facts["matrix_units"]:
            hide_matrix_units()  # the peer crashes here as well unless it is treated the same
        machine.say(f"{quant}: AMX {'used' if facts['matrix_units'] else 'hidden'}, repacking "
                    f"{'on' if self._repacks else 'off'}, {self._threads} threads, on {facts['device']}")

    def loop(self) -> None:
        """Against `Llama`."""
        import llama_cpp

        count = self._new_tokens
        llama = llama_cpp.Llama(str(self._path), n_ctx=512, n_threads=self._threads, n_threads_batch=self._threads,
                                verbose=False, n_gpu_layers=-1)
        found = machine.compare(lambda: loop_run(llama, count), lambda: engine_run(self._engine, count), self._repeats)
        found.report(f"{self._quant}: engine / loop over Llama, end to end", TARGETS[self._quant], PROMPTS * count)
        llama.close()

    def bare(self) -> None:
        """Against llama_decode alone."""
        count = self._new_tokens
        model = self._loaded(ContextSettings(PROMPTS, 512, threads=self._threads, flash_attention=False))
        found = machine.compare(lambda: bare_run(model, count), lambda: engine_run(self._engine, count), self._repeats)
        found.report(f"{self._quant}: engine / bare llama_decode loop", "0.9x", PROMPTS * count)

    def samples(self) -> None:
        """With and without sharing."""
        with_pool = self._loaded(ContextSettings(SAMPLES, 1280, True, 1536, self._threads, False))
        apart = self._loaded(ContextSettings(SAMPLES, 1280, threads=self._threads, flash_attention=False))
        apart.can_share_prefix = False
        peer, ours = Batcher(apart), Batcher(with_pool)
        runs = count()
        found = machine.compare(lambda: sample_run(peer, next(runs)), lambda: sample_run(ours, next(runs)),
                                self._repeats)
        what = f"{self._quant}: {SAMPLES} samples over {PREFIX_TOKENS} tokens, shared / apart"
        found.report(what, "3.5x", SAMPLES * SAMPLE_TOKENS)
        small, large = (model.context_facts()["kv_bytes"] for model in (with_pool, apart))
        large = large * SAMPLES // (SAMPLES + 1)  # without the sequence that keeps a prefix
        machine.say(f"{self._quant}: KV memory {small / 1e6:.1f} of {large / 1e6:.1f} MB: {small / large:.2f}x; "
                    "target 0.25x")

    def _loaded(self, settings: ContextSettings) -> NativeModel:
        model = NativeModel(LoadSettings(str(self._path), repacks=self._repacks))
        model.arrange(settings)
        return model

    def close(self) -> None:
        """End the engine."""
        self._engine.close()


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quants", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--parts", nargs="+", default=["loop", "bare", "samples"], choices=["loop", "bare", "samples"])
    parser.add_argument("--new-tokens", type=int, default=128, help="of every reply, in `loop` and `bare`")
    machine.add_arguments(parser)
    arguments = parser.parse_args()
    # As in the engine's own process: threads that spin while they wait lose whole time slices to other programs.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    paths = {quant: model_of(arguments.folder, quant) for quant in arguments.quants}
    machine.describe(["llama-cpp-python", "numpy"])
    machine.check_idle(arguments.busy)
    for quant, path in paths.items():
        measurement = Measurement(path, quant, arguments.repeats, arguments.new_tokens)
        for part in arguments.parts:
            getattr(measurement, part)()
        measurement.close()
    machine.check_idle(allowed=True)


if __name__ == "__main__":
    main()
