"""The student under test in torch: a base model, alone or with an adapter as it was trained. It runs in the process of
the stage that asks, batches prompts of similar length, and stops only at stop tokens. Must not train or download."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from localdistill.core.borders import BORDERS
from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import TemplateRefused, UsageError
from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.core.options import DeviceName
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.engines._continuations import ScoringTarget, Unscorable, scored_replies
from localdistill.engines._student import Asked, StudentEngine, StudentOptions, WrittenRow

if TYPE_CHECKING:
    from localdistill.engines._decoding import BatchDecoder, Generation



class TransformersEngine(StudentEngine):
    """Answers with a student in torch."""

    class Options(StudentOptions):
        """Options of the transformers engine."""

        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Arithmetic; `auto` is float32 on a CPU, and on a GPU bfloat16 where it computes that, else float16."""
        quantization: Literal["none", "nf4"] = "none"
        """How the student's weights are held. `nf4` answers as a student whose adapter was trained on NF4 weights: the
        adapter stays beside them. `none` merges the adapter into the stored weights."""
        device: DeviceName = "auto"
        """`auto` takes the NVIDIA or AMD GPU with the most memory, else the CPU; or `cpu`, `cuda`, `cuda:1`, `mps`."""
        threads: int = Field(0, ge=0)
        """CPU threads; 0 leaves torch's choice."""

    name = "transformers"

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        files = {"student/config.json": "{}", "student/tokenizer.json": "{}"}
        return (
            EngineSample(options={"model": "absent"}, refused="there is no model folder"),
            EngineSample(files=files, options={"model": "student"}, refused="architectures None is not supported"),
            EngineSample(options={"model": "absent", "device": "abacus"}, refused="device"),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options
        self._decoder: BatchDecoder | None = None

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset({"generate", "continue_text", "score", "stream", "top_logprobs", "top_scores"})

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests`, the shortest prompts of each window first."""
        waiting = iter(requests)
        done = 0
        while not cancel.is_set():
            window = list(islice(waiting, self.options.batch_rows * BORDERS.window_batches))
            if not window:
                return
            self._load()
            ready: list[tuple[Asked, Generation]] = []
            scored: list[tuple[Request, list[ScoringTarget]]] = []
            for request in window:
                try:
                    require(self, needed_by(request))
                    if request.kind == "score":
                        scored.append((request, self._targets(request)))
                    else:
                        ready.append(self._generation(request))
                except (TemplateRefused, UsageError, Unscorable) as refusal:
                    yield Reply(request.id, "error", cost_usd=0.0, error=str(refusal))
            for reply in chain(self._write(ready, cancel), self._score(scored, cancel)):
                yield reply
                done += reply.status != "error"
                emit(Progressed("student", done, 0, "replies"))

    def _write(self, asked: Sequence[tuple[Asked, Generation]], cancel: Cancel) -> Iterator[Reply]:
        """Replies to requests to write, the shortest prompts first; what a cancel cut is left out."""
        decoder = self._load()
        yield from (self._too_long(one) for one, row in asked if row.max_tokens <= 0)
        for batch in self._batches([pair for pair in asked if pair[1].max_tokens > 0]):
            began = time.monotonic()
            decoder.run([row for _, row in batch], cancel)
            elapsed_s = (time.monotonic() - began) / len(batch)
            for one, row in batch:
                if row.finish:
                    yield self._reply(one, row, elapsed_s)
            if cancel.is_set():
                return

    def _score(self, asked: Sequence[tuple[Request, list[ScoringTarget]]], cancel: Cancel) -> Iterator[Reply]:
        """Replies to requests to score. With a window, prefixes that only begin alike are read apart: the padding
        between what they share and what they do not would count in the window."""
        if not asked or cancel.is_set():
            return
        model = self._load().model
        from localdistill.engines._scoring import BatchScorer

        scorer = BatchScorer(model)
        yield from scored_replies(asked, lambda batch: scorer.run(batch, cancel), self.options.batch_rows,
                                  self.options.max_batch_tokens, branches=self.folder.window is None)

    def _write_one(self, asked: Asked, cancel: Cancel, on_token: Callable[[WrittenRow], None]) -> None:
        self._load().run([self._generation_of(asked)], cancel, on_token)

    def close(self) -> None:
        """Free the model."""
        self._decoder = None

    def _load(self) -> BatchDecoder:
        if self._decoder is not None:
            return self._decoder
        from localdistill.modelfiles.loading import import_torch, load_causal_model, pick_device, pick_dtype

        torch = import_torch()
        from localdistill.engines._decoding import BatchDecoder

        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        device = pick_device(self.options.device)
        dtype = pick_dtype(self.options.dtype, device)
        adapter = self.adapter()
        if adapter is not None:
            adapter.require_fitted_to("")
        if self.options.quantization == "nf4":
            model = load_causal_model(self.folder, dtype, device, "nf4")
            if adapter is not None:
                adapter.attach(model)
        else:
            model = load_causal_model(self.folder, torch.float32 if adapter else dtype, torch.device("cpu"))
            if adapter is not None:
                with torch.no_grad():
                    for name, weight in model.named_parameters():
                        weight.copy_(adapter.apply(name, weight))
            model = model.to(device=device, dtype=dtype)
        self._decoder = BatchDecoder(model, self.tokenizer.decode)
        return self._decoder

    def _generation(self, request: Request) -> tuple[Asked, Generation]:
        """The row to generate."""
        asked = self._asked(request)
        return asked, self._generation_of(asked)

    def _generation_of(self, asked: Asked) -> Generation:
        import torch

        from localdistill.engines._decoding import Generation

        sampling, generator = asked.request.sampling, torch.Generator().manual_seed(asked.seed)
        return Generation(asked.ids, asked.room, frozenset(self.tokenizer.stop_token_ids), sampling.temperature,
                          sampling.top_p, sampling.top_k, generator, sampling.stop, asked.request.top_logprobs)

    def _batches(self, ready: Sequence[tuple[Asked, Generation]]) -> Iterator[list[tuple[Asked, Generation]]]:
        """`ready` sorted by prompt length and cut so that no batch can outgrow its limits."""
        batch: list[tuple[Asked, Generation]] = []
        longest = 0
        for item in sorted(ready, key=lambda entry: len(entry[1].prompt_ids)):
            row = item[1]
            peak = max(longest, len(row.prompt_ids) + row.max_tokens)
            full = len(batch) >= self.options.batch_rows or peak * (len(batch) + 1) > self.options.max_batch_tokens
            if batch and full:
                yield batch
                batch, peak = [], len(row.prompt_ids) + row.max_tokens
            batch.append(item)
            longest = peak
        if batch:
            yield batch
