"""Continuous batching: one step feeds every running sequence its last token and new prompts their next chunk.

A finished sequence frees its slot in the same step in which the next prompt enters. What several prompts have in
common is evaluated once, in a sequence of its own, and copied.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from itertools import islice
from typing import Any

from localdistill.engines.llama_cpp_native.model import BATCH_TOKENS, NativeModel
from localdistill.engines.llama_cpp_native.sequence import NativeSequence, Question

SHORTEST_SHARED_PREFIX = 32


class Refused(Exception):
    """This question cannot be answered by this model; the text says why."""


class Batcher:
    """Decodes up to `model.parallel` sequences at once."""

    def __init__(self, model: NativeModel) -> None:
        import numpy

        self._numpy: Any = numpy
        self._model = model
        self._waiting: deque[NativeSequence] = deque()
        self._running: dict[int, NativeSequence] = {}
        self._free = list(range(model.parallel))[::-1]
        self._shared_slot = model.parallel
        self._shared: list[int] = []

    def is_busy(self) -> bool:
        """True while there is anything to do."""
        return bool(self._running or self._waiting)

    def add(self, question: Question) -> None:
        """Queue a question. Raises Refused when its prompt does not fit."""
        prompt = self._model.tokenize(question.prompt)
        room = self._model.context_tokens - len(prompt)
        if not prompt:
            raise Refused("the prompt is empty")
        if room < 1:
            raise Refused(f"the prompt has {len(prompt)} tokens; the context holds {self._model.context_tokens}")
        budget = min(question.max_tokens, room)
        self._waiting.append(NativeSequence(question, prompt, budget))

    def drop_all(self) -> None:
        """Forget everything that is queued or running."""
        self._waiting.clear()
        for slot in list(self._running):
            self._release(slot)

    def step(self) -> list[NativeSequence]:
        """Evaluate one batch. Returns every sequence that got a token; those with `finish` set are over."""
        self._admit()
        tokens: list[int] = []
        positions: list[int] = []
        sequences: list[int] = []
        asking: list[tuple[int, int]] = []
        prefilling: list[int] = []
        for slot, sequence in self._running.items():
            if sequence.evaluated < len(sequence.prompt):
                prefilling.append(slot)
                continue
            asking.append((len(tokens), slot))
            tokens.append(sequence.tokens[-1])
            positions.append(sequence.evaluated)
            sequences.append(slot)
            sequence.evaluated += 1
        for slot in prefilling:
            sequence = self._running[slot]
            chunk = sequence.prompt[sequence.evaluated : sequence.evaluated + BATCH_TOKENS - len(tokens)]
            tokens.extend(chunk)
            positions.extend(range(sequence.evaluated, sequence.evaluated + len(chunk)))
            sequences.extend([slot] * len(chunk))
            sequence.evaluated += len(chunk)
            if chunk and sequence.evaluated == len(sequence.prompt):
                asking.append((len(tokens) - 1, slot))
        self._decode(tokens, positions, sequences, [row for row, _ in asking])
        return self._sample(asking)

    def measure(self, count: int) -> float:
        """Tokens per second of one sequence that writes `count` tokens alone. Only while nothing else runs."""
        slot, self._shared = self._shared_slot, []
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)
        self._decode([0], [0], [slot], [0])
        self._likeliest(1)
        begin = time.perf_counter()
        for position in range(1, count + 1):
            self._decode([0], [position], [slot], [0])
            self._likeliest(1)  # waits for the device
        elapsed_s = time.perf_counter() - begin
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)
        return count / elapsed_s

    def prefill(self, count: int) -> None:
        """Evaluate `count` tokens in one batch and forget them. Only while nothing else runs."""
        slot, self._shared = self._shared_slot, []
        self._decode([0] * count, list(range(count)), [slot] * count, [count - 1])
        self._likeliest(1)
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)

    def _decode(self, tokens: list[int], positions: list[int], sequences: list[int], outputs: list[int]) -> None:
        model = self._model
        code = model.api.llama_decode(model.context, model.batch.filled(tokens, positions, sequences, outputs))
        if code:
            raise RuntimeError(f"llama_decode returned {code} for {len(tokens)} tokens")

    def _sample(self, asking: list[tuple[int, int]]) -> list[NativeSequence]:
        """Pick a token for each (batch row, slot); rows are in ascending order, as llama.cpp stores their logits."""
        if not asking:
            return []
        model, running = self._model, self._running
        sample, context, piece, ends = model.api.llama_sampler_sample, model.context, model.piece, model.ends
        likeliest = self._likeliest(len(asking)) if any(running[slot].sampler is None for _, slot in asking) else []
        touched = []
        for index, (row, slot) in enumerate(asking):
            sequence = running[slot]
            token = likeliest[index] if sequence.sampler is None else sample(sequence.sampler, context, row)
            if ends[token]:
                sequence.finish = "stop"
            else:
                sequence.add(token, piece(token))
            touched.append(sequence)
            if sequence.finish:
                self._release(slot)
        return touched

    def _likeliest(self, rows: int) -> list[int]:
        pointer = self._model.api.llama_get_logits(self._model.context)
        address = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * (rows * self._model.vocab_size)))
        logits = self._numpy.frombuffer(address.contents, self._numpy.float32).reshape(rows, -1)
        picked: list[int] = logits.argmax(axis=1).tolist()
        return picked

    def _release(self, slot: int) -> None:
        sequence = self._running.pop(slot)
        if sequence.sampler is not None:
            self._model.api.llama_sampler_free(sequence.sampler)
            sequence.sampler = None
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)
        self._free.append(slot)

    def _admit(self) -> None:
        while self._free and self._waiting:
            sequence = self._waiting.popleft()
            slot = self._free.pop()
            sequence.sampler = self._model.sampler(sequence.question)
            if self._model.can_share_prefix:
                self._copy_shared(sequence, slot)
            self._running[slot] = sequence

    def _copy_shared(self, sequence: NativeSequence, slot: int) -> None:
        """Start `sequence` with what it has in common with the kept prefix, after renewing that when it pays."""
        common = _common(self._shared, sequence.prompt)
        coming = max((_common(sequence.prompt, other.prompt) for other in islice(self._waiting, 2)), default=0)
        if coming >= common + SHORTEST_SHARED_PREFIX:
            self._share(sequence.prompt[:coming], common)
            common = coming
        common = min(common, len(sequence.prompt) - 1)
        if common < SHORTEST_SHARED_PREFIX:
            return
        api, memory = self._model.api, self._model.memory
        if self._model.settings.unified:
            api.llama_memory_seq_cp(memory, self._shared_slot, slot, 0, common)
        else:  # separate caches are copied whole and cut afterwards
            api.llama_memory_seq_cp(memory, self._shared_slot, slot, -1, -1)
            api.llama_memory_seq_rm(memory, slot, common, -1)
        sequence.evaluated = sequence.cached = common

    def _share(self, prefix: list[int], keep: int) -> None:
        """Make `prefix` the kept one; its first `keep` tokens are there already."""
        self._model.api.llama_memory_seq_rm(self._model.memory, self._shared_slot, keep, -1)
        for begin in range(keep, len(prefix), BATCH_TOKENS):
            chunk = prefix[begin : begin + BATCH_TOKENS]
            self._decode(chunk, list(range(begin, begin + len(chunk))), [self._shared_slot] * len(chunk), [])
        self._shared = prefix


def _common(left: list[int], right: list[int]) -> int:
    """Length of the common beginning."""
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    return next(i for i, (a, b) in enumerate(zip(left, right)) if a != b)
