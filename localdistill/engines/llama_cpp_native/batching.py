"""Continuous batching: one step feeds every writing sequence its last token and new prompts their next chunk. What is
to be scored is a prompt whose last part is known beforehand.

A finished sequence frees its slot in the same step in which the next prompt enters. What several prompts have in
common is evaluated once and copied. With a unified KV cache all sequences draw on one pool of cells:

- A prompt enters when the pool holds what of it is not shared, and a little room to write for everybody.
- Each reply may grow to the whole context. When the pool runs out, the youngest reply is paused: its cells are freed,
  what it wrote is kept, and it is read again when there is room, before any newer prompt enters.
- The oldest reply is never paused, so each one ends.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from itertools import islice
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.engines._continuations import Unscorable, target_ids
from localdistill.engines.llama_cpp_native.cells import CellAllocator
from localdistill.engines.llama_cpp_native.model import NativeModel
from localdistill.engines.llama_cpp_native.sampling import GrammarRefused, Picker, score_row
from localdistill.engines.llama_cpp_native.sequence import NativeRequest, NativeSequence
from localdistill.modelfiles.beginnings import SHORTEST_SHARED_PREFIX, common_length

ROOM_TO_WRITE = 64
"""Free cells that each reply is to find when another prompt enters."""


class Unanswerable(Exception):
    """This request cannot be answered by this model; the text says why."""


class Batcher:
    """Decodes up to `model.parallel` sequences at once."""

    def __init__(self, model: NativeModel) -> None:
        import numpy

        self._numpy: Any = numpy
        self._model = model
        self._waiting: deque[NativeSequence] = deque()
        self._running: dict[int, NativeSequence] = {}
        """Slot to sequence, oldest first."""
        self._free = list(range(model.parallel))
        self._shared_slot = model.parallel
        self._shared: list[int] = []
        self._cells = CellAllocator(model.pool_tokens) if model.unified else None
        self._most_outputs = BORDERS.output_bytes // (4 * model.vocab_size)
        self.pauses = 0
        """How often a reply had to give its cells to older ones."""
        self.evaluated_tokens = 0
        """Tokens that went through the model so far."""

    def is_busy(self) -> bool:
        """True while there is anything to do."""
        return bool(self._running or self._waiting)

    def add(self, request: NativeRequest) -> list[NativeSequence]:
        """Queue a request: one sequence, or one for each continuation that is to be scored. Raises Unanswerable when
        it does not fit, or its grammar or a continuation cannot be read."""
        prompt = self._model.tokenize(request.prompt)
        new = self._to_score(request, prompt) if request.continuations else [self._to_write(request, prompt)]
        self._waiting.extend(new)
        return new

    def _to_write(self, request: NativeRequest, prompt: list[int]) -> NativeSequence:
        room = self._model.context_tokens - len(prompt)
        if not prompt:
            raise Unanswerable("the prompt is empty")
        if room < 1:
            raise Unanswerable(f"the prompt has {len(prompt)} tokens; the context holds {self._model.context_tokens}")
        sequence = NativeSequence(request, prompt, min(request.max_tokens, room))
        if request.temperature > 0 or request.grammar or request.json_schema:
            try:
                sequence.picker = Picker(self._model.api, self._model.vocab, request)
            except GrammarRefused as refusal:
                raise Unanswerable(str(refusal)) from None
        return sequence

    def _to_score(self, request: NativeRequest, prompt: list[int]) -> list[NativeSequence]:
        model = self._model
        try:
            targets = target_ids(request.continuations, prompt, model.encode, model.vocab_size, model.context_tokens)
        except Unscorable as refusal:
            raise Unanswerable(str(refusal)) from None
        return [NativeSequence(request, prompt, 0, target) for target in targets]

    def drop_all(self) -> None:
        """Forget everything that is queued or running."""
        self._waiting.extend(self._vacate(slot) for slot in list(self._running))
        while self._waiting:
            _free_picker(self._waiting.popleft())

    def step(self) -> list[NativeSequence]:
        """Evaluate one batch. Returns every sequence that got a token or is scored; those with `finish` set are over.
        """
        self._admit()
        self._make_room()
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        asking: list[tuple[int, int, int]] = []
        writing = sum(sequence.is_writing for sequence in self._running.values())
        room, outputs = BORDERS.call_tokens - writing, max(1, self._most_outputs - writing)
        # Separate caches are evaluated together only where slots follow each other in the batch.
        for slot in sorted(self._running):
            sequence = self._running[slot]
            begin = sequence.evaluated
            if sequence.is_writing:
                chunk = sequence.tokens[-1:]
            else:
                chunk = sequence.fed[begin : begin + room]
                excess = len(sequence.outputs(begin, begin + len(chunk))) - outputs if sequence.target else 0
                chunk = chunk[: len(chunk) - max(0, excess)]
                room -= len(chunk)
            sequence.evaluated += len(chunk)
            wanted = sequence.outputs(begin, sequence.evaluated)
            outputs -= len(wanted) if sequence.target else 0
            asking += [(len(tokens) + place - begin, slot, place) for place in wanted]
            tokens += chunk
            positions += range(begin, sequence.evaluated)
            slots += [slot] * len(chunk)
        self._decode(tokens, positions, slots, [row for row, _, _ in asking])
        return self._pick(asking)

    def measure(self, count: int) -> float:
        """Tokens per second of one sequence that writes `count` tokens alone. Only while nothing else runs."""
        slot = self._shared_slot
        self._trim_shared(0)
        self._decode([0], [0], [slot], [0])
        self._logits(1)
        begin = time.perf_counter()
        for position in range(1, count + 1):
            self._decode([0], [position], [slot], [0])
            self._logits(1)  # waits for the device
        elapsed_s = time.perf_counter() - begin
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)
        return count / elapsed_s

    def _decode(self, tokens: list[int], positions: list[int], slots: list[int], outputs: list[int]) -> None:
        model = self._model
        code = model.api.llama_decode(model.context, model.batch.filled(tokens, positions, slots, outputs))
        if code:
            raise RuntimeError(f"llama_decode returned {code} for {len(tokens)} tokens")
        self.evaluated_tokens += len(tokens)

    def _pick(self, asking: list[tuple[int, int, int]]) -> list[NativeSequence]:
        """Pick or score a token for each (batch row, slot, place in the sequence); rows are in ascending order, as
        llama.cpp stores their logits."""
        if not asking:
            return []
        asked = [self._running[slot] for _, slot, _ in asking]
        logits = self._logits(len(asking))
        greedy = [index for index, sequence in enumerate(asked) if not sequence.target and sequence.picker is None]
        rows = logits if len(greedy) == len(asked) else logits[greedy]
        likeliest = dict(zip(greedy, rows.argmax(axis=1).tolist())) if greedy else {}
        told: list[NativeSequence] = []
        for index, ((_, slot, place), sequence) in enumerate(zip(asking, asked)):
            if sequence.target:
                token = sequence.wanted(place)
                sequence.add_score(score_row(logits[index], token, sequence.request.top_logprobs))
            else:
                self._write(sequence, logits[index], likeliest.get(index))
            if sequence.finish:
                self._vacate(slot)
            if sequence.finish or not sequence.target:
                told.append(sequence)
        return told

    def _write(self, sequence: NativeSequence, logits: Any, likeliest: int | None) -> None:
        """Add a token to a reply. likeliest: the one to take where nothing is drawn."""
        token = sequence.picker.pick(logits) if sequence.picker is not None else likeliest
        assert token is not None
        if sequence.request.top_logprobs:
            sequence.scores.append(score_row(logits, token, sequence.request.top_logprobs))
        if self._model.ends[token]:
            sequence.finish = "stop"
        else:
            sequence.add(token, self._model.piece(token))

    def _logits(self, rows: int) -> Any:
        """The logits (rows, V) of the last batch; a view that the next batch overwrites."""
        pointer = self._model.api.llama_get_logits(self._model.context)
        address = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * (rows * self._model.vocab_size)))
        return self._numpy.frombuffer(address.contents, self._numpy.float32).reshape(rows, -1)

    def _vacate(self, slot: int) -> NativeSequence:
        """Free a slot and its cells. A sequence that is over gives its picker back too."""
        sequence = self._running.pop(slot)
        if sequence.finish:
            _free_picker(sequence)
        self._model.api.llama_memory_seq_rm(self._model.memory, slot, -1, -1)
        if self._cells:
            self._cells.release(slot)
        self._free.append(slot)
        return sequence

    def _admit(self) -> None:
        self._free.sort(reverse=True)
        while self._free and self._waiting:
            sequence = self._waiting[0]
            donor, common = self._donor(sequence)
            if self._cells and not self._fits(sequence, common):
                if not self._trim_shared(common if donor == self._shared_slot else 0):
                    return
                continue
            self._waiting.popleft()
            slot = self._free.pop()
            if common:
                self._copy(donor, slot, common)
                sequence.evaluated = common
                if not sequence.tokens:
                    sequence.cached = common
            if self._cells:
                self._cells.extend(slot, len(sequence.fed) - common)
            self._running[slot] = sequence

    def _fits(self, sequence: NativeSequence, common: int) -> bool:
        """True when the pool holds what `sequence` does not share, and room to write for all."""
        assert self._cells is not None
        writers = [*self._running.values(), sequence] if self._running else []
        room = sum(min(ROOM_TO_WRITE, one.budget - len(one.tokens)) for one in writers) or 1
        return self._cells.free >= len(sequence.fed) - common + room

    def _make_room(self) -> None:
        """Take a cell of the pool for every reply that writes; pause the youngest replies when there are too few."""
        if not self._cells:
            return
        writing = [slot for slot, sequence in self._running.items() if sequence.is_writing]
        while self._cells.free < len(writing):
            if self._trim_shared(0):
                continue
            slot = next(reversed(self._running))
            sequence = self._vacate(slot)
            sequence.pause()
            self._waiting.appendleft(sequence)
            self.pauses += 1
            writing = [other for other in writing if other != slot]
        for slot in writing:
            self._cells.extend(slot, 1)

    def _donor(self, sequence: NativeSequence) -> tuple[int, int]:
        """Who holds the longest beginning of `sequence`, and how long it is; (0, 0) when it is not worth a copy.

        When the next in the queue have more in common with it than anybody holds, that is evaluated first and kept.
        """
        if not self._model.can_share_prefix:
            return 0, 0
        donor, common = self._shared_slot, common_length(self._shared, sequence.fed)
        for slot, other in self._running.items():
            found = common_length(other.fed, sequence.fed, other.evaluated)
            if found >= common + SHORTEST_SHARED_PREFIX:
                donor, common = slot, found
        coming = max((common_length(sequence.fed, other.fed) for other in islice(self._waiting, 1, 3)), default=0)
        if coming >= common + SHORTEST_SHARED_PREFIX and self._share(sequence.fed[:coming], donor, common):
            donor, common = self._shared_slot, coming
        common = min(common, sequence.shareable)
        return (donor, common) if common >= SHORTEST_SHARED_PREFIX else (0, 0)

    def _share(self, prefix: list[int], donor: int, common: int) -> bool:
        """Make `prefix` the kept one; `donor` holds its first `common` tokens. False when the pool is too full."""
        keep = common
        if donor == self._shared_slot:
            self._trim_shared(keep)
        else:
            self._trim_shared(0)
            if keep >= SHORTEST_SHARED_PREFIX:
                self._copy(donor, self._shared_slot, keep)
            else:
                keep = 0
        self._shared = prefix[:keep]
        if self._cells:
            spare = ROOM_TO_WRITE * (len(self._running) + 1)
            if self._cells.free < len(prefix) - keep + spare:
                return False
            self._cells.extend(self._shared_slot, len(prefix) - keep)
        for begin in range(keep, len(prefix), BORDERS.call_tokens):
            chunk = prefix[begin : begin + BORDERS.call_tokens]
            self._decode(chunk, list(range(begin, begin + len(chunk))), [self._shared_slot] * len(chunk), [])
        self._shared = prefix
        return True

    def _copy(self, donor: int, slot: int, common: int) -> None:
        """Let the empty `slot` begin with the first `common` tokens of `donor`."""
        api, memory = self._model.api, self._model.memory
        if self._cells:
            api.llama_memory_seq_cp(memory, donor, slot, 0, common)
            self._cells.share(donor, slot, common)
        else:  # separate caches are copied whole and cut afterwards
            api.llama_memory_seq_cp(memory, donor, slot, -1, -1)
            api.llama_memory_seq_rm(memory, slot, common, -1)

    def _trim_shared(self, keep: int) -> bool:
        """Let go of the kept prefix behind its first `keep` tokens. False when there is nothing behind them."""
        if len(self._shared) <= keep:
            return False
        self._shared = self._shared[:keep]
        self._model.api.llama_memory_seq_rm(self._model.memory, self._shared_slot, keep or -1, -1)
        if self._cells:
            self._cells.keep(self._shared_slot, keep)
        return True


def _free_picker(sequence: NativeSequence) -> None:
    if sequence.picker is not None:
        sequence.picker.free()
        sequence.picker = None
