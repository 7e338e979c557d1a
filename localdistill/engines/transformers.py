"""The student under test in torch: a base model, alone or with an adapter as it was trained. It runs in the process of
the stage that asks, batches prompts of similar length, and stops only at stop tokens. Must not train or download."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from localdistill.core.borders import BORDERS
from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import EngineError, TemplateRefused, UsageError
from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.core.options import DeviceName, FileName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Reply, Request, Usage, content_id
from localdistill.core.samples import EngineSample
from localdistill.engines._continuations import (
    ScoringTarget,
    Unscorable,
    refuse_strange_ids,
    scored_replies,
    target_ids,
)
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.providers import THIS_MACHINE, Who
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text

if TYPE_CHECKING:
    from localdistill.engines._decoding import BatchDecoder, Generation



class TransformersEngine:
    """Answers with a student in torch."""

    class Options(BaseOptions):
        """Options of the transformers engine."""

        model: FileName
        """The student: a folder, `shipped:NAME` or `hf://organisation/name`."""
        adapter: FileName = ""
        """Folder of an adapter to add; empty answers with the base model."""
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        """Arithmetic; `auto` is float32 on a CPU, and on a GPU bfloat16 where it computes that, else float16."""
        quantization: Literal["none", "nf4"] = "none"
        """How the student's weights are held. `nf4` answers as a student whose adapter was trained on NF4 weights: the
        adapter stays beside them. `none` merges the adapter into the stored weights."""
        device: DeviceName = "auto"
        """`auto` takes the NVIDIA or AMD GPU with the most memory, else the CPU; or `cpu`, `cuda`, `cuda:1`, `mps`."""
        batch_rows: int = Field(32, ge=1)
        """Prompts answered at once at most."""
        max_batch_tokens: int = Field(32768, ge=1)
        """Tokens (prompts and the longest replies allowed) that a batch may come to hold; bounds the memory."""
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
        self.options = options
        self._decoder: BatchDecoder | None = None
        self._folder: ModelFolder | None = None
        self._template: ChatTemplate | None = None
        self._tokenizer: StudentTokenizer | None = None

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Nobody is asked."""
        return THIS_MACHINE

    @property
    def folder(self) -> ModelFolder:
        """The checked student. Raises ModelFileError."""
        if self._folder is None:
            self._folder = ModelFolder.open(resolve_model(self.options.model))
        return self._folder

    @property
    def tokenizer(self) -> StudentTokenizer:
        """The student's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = StudentTokenizer(self.folder.path)
        return self._tokenizer

    def identity(self) -> str:
        """`sha256:...` of the student, `+sha256:...` of the adapter."""
        if not self.options.adapter:
            return self.folder.digest()
        return f"{self.folder.digest()}+{AdapterFolder.open(self.options.adapter, self.folder).digest()}"

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset({"generate", "continue_text", "score", "stream", "top_logprobs", "top_scores"})

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`."""
        return request.sampling.greedy_by

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests`, the shortest prompts of each window first."""
        waiting = iter(requests)
        done = 0
        while not cancel.is_set():
            window = list(islice(waiting, self.options.batch_rows * BORDERS.window_batches))
            if not window:
                return
            self._load()
            ready: list[tuple[Request, str, Generation]] = []
            scored: list[tuple[Request, list[ScoringTarget]]] = []
            for request in window:
                try:
                    require(self, needed_by(request))
                    if request.kind == "score":
                        scored.append((request, self._targets(request)))
                    else:
                        ready.append((request, *self._row(request)))
                except (TemplateRefused, UsageError, Unscorable) as refusal:
                    yield Reply(request.id, "error", cost_usd=0.0, error=str(refusal))
            for reply in chain(self._write(ready, cancel), self._score(scored, cancel)):
                yield reply
                done += reply.status != "error"
                emit(Progressed("student", done, 0, "replies"))

    def _write(self, asked: Sequence[tuple[Request, str, Generation]], cancel: Cancel) -> Iterator[Reply]:
        """Replies to requests to write, the shortest prompts first; what a cancel cut is left out."""
        decoder = self._load()
        ready = []
        for request, prompt, row in asked:
            if row.max_tokens > 0:
                ready.append((request, prompt, row))
            else:
                yield self._too_long(request, len(row.prompt_ids))
        for batch in self._batches(ready):
            began = time.monotonic()
            decoder.run([row for _, _, row in batch], cancel)
            elapsed_s = (time.monotonic() - began) / len(batch)
            for request, prompt, row in batch:
                if row.finish:
                    yield self._reply(request, prompt, row, elapsed_s)
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

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the raw reply to one request as it is written. Raises EngineError when the prompt is too long or
        refused by the student's template."""
        require(self, {"stream", *needed_by(request)})
        decoder = self._load()
        try:
            _, row = self._row(request)
        except TemplateRefused as refusal:
            raise EngineError(refusal.message, refusal.hint) from None
        if row.max_tokens <= 0:
            raise EngineError(self._too_long(request, len(row.prompt_ids)).error, "shorten the conversation")
        pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        gone = threading.Event()
        shown = 0

        def on_token(written: Generation) -> None:
            nonlocal shown
            text = self._text(request, written)
            # A character may span tokens: its bytes are held back until the last one is there.
            if written.finish or not text.endswith("\ufffd"):
                pieces.put(text[shown:])
                shown = len(text)

        def work() -> None:
            try:
                decoder.run([row], Cancel(lambda: gone.is_set() or cancel.is_set()), on_token)
                pieces.put(None)
            except BaseException as error:
                pieces.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                if piece:
                    yield piece
        finally:
            gone.set()
            worker.join()

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
        adapter = AdapterFolder.open(self.options.adapter, self.folder) if self.options.adapter else None
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

    def _prompt(self, request: Request) -> tuple[str, list[int]]:
        """The rendered prompt, or the raw text, and its tokens."""
        if self._template is None:
            self._template = ChatTemplate.from_folder(Path(self.folder.path))
        text = request.text
        prompt = self._template.prompt(request.messages, request.thinks) if text is None else text
        return prompt, self.tokenizer.encode_prompt(prompt)

    def _targets(self, request: Request) -> list[ScoringTarget]:
        """What is to be scored. Raises Unscorable."""
        refuse_strange_ids(request, lambda: self.tokenizer.identity)
        prefix = tuple(self._prompt(request)[1])
        found = target_ids(request.continuations, prefix, self.tokenizer.encode, self.folder.vocab_size,
                           self.folder.context_length)
        return [ScoringTarget(prefix, ids, request.top_logprobs) for ids in found]

    def _row(self, request: Request) -> tuple[str, Generation]:
        """The rendered prompt and the row to generate; `max_tokens` is cut to what the context leaves."""
        import torch

        from localdistill.engines._decoding import Generation

        prompt, ids = self._prompt(request)
        sampling = request.sampling
        seed = content_id("sampler", sampling.seed, request.sample_index, prompt)
        generator = torch.Generator().manual_seed(int(seed.removeprefix("b2:")[:15], 16))
        room = min(sampling.max_tokens, self.folder.context_length - len(ids))
        return prompt, Generation(ids, room, frozenset(self.tokenizer.stop_token_ids), sampling.temperature,
                                  sampling.top_p, sampling.top_k, generator, sampling.stop, request.top_logprobs)

    def _batches(self, ready: list[tuple[Request, str, Generation]]) -> Iterator[list[tuple[Request, str, Generation]]]:
        """`ready` sorted by prompt length and cut so that no batch can outgrow its limits."""
        batch: list[tuple[Request, str, Generation]] = []
        longest = 0
        for item in sorted(ready, key=lambda entry: len(entry[2].prompt_ids)):
            row = item[2]
            peak = max(longest, len(row.prompt_ids) + row.max_tokens)
            full = len(batch) >= self.options.batch_rows or peak * (len(batch) + 1) > self.options.max_batch_tokens
            if batch and full:
                yield batch
                batch, peak = [], len(row.prompt_ids) + row.max_tokens
            batch.append(item)
            longest = peak
        if batch:
            yield batch

    def _text(self, request: Request, row: Generation) -> str:
        """What the row wrote, up to the first stop string."""
        text = self.tokenizer.decode(row.written)
        cuts = [text.find(stop) for stop in request.sampling.stop if stop in text]
        return text[:min(cuts)] if cuts else text

    def _reply(self, request: Request, prompt: str, row: Generation, elapsed_s: float) -> Reply:
        from localdistill.engines._decoding import joined

        text = self._text(request, row)
        usage = Usage(prompt_tokens=len(row.prompt_ids), completion_tokens=len(row.written) + (row.finish == "stop"))
        reply = reply_of_text(request.id, text, row.finish or "truncated", opened=opens_thinking_tag(prompt),
                              usage=usage, elapsed_s=elapsed_s)
        counted = replace(usage, reasoning_tokens=self.tokenizer.count(reply.reasoning) if reply.reasoning else 0)
        return replace(reply, usage=counted, scores=joined(row.scores) if row.scores else None)

    def _too_long(self, request: Request, tokens: int) -> Reply:
        limit = self.folder.context_length
        return Reply(request.id, "error", cost_usd=0.0,
                     error=f"the prompt has {tokens} tokens, the student's context ends at {limit}")

