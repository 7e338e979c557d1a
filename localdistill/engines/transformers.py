"""The student under test in torch: a base model, alone or with an adapter as it was trained. It runs in the process of
the stage that asks, batches continuously, and stops only at stop tokens. Must not train or download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from localdistill.core.borders import BORDERS
from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import TemplateRefused, UsageError
from localdistill.core.events import Cancel, Emit, Progressed, Warned, silent
from localdistill.core.options import DeviceName
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.engines._continuations import ScoringTarget, Unscorable, scored_replies
from localdistill.engines._student import StudentEngine, StudentOptions
from localdistill.modelfiles.student_rows import Asked, StudentRow

if TYPE_CHECKING:
    from localdistill.modelfiles.adapted import AdaptedModel
    from localdistill.modelfiles.torch_decoding import BatchDecoder, Generation


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

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset({"generate", "continue_text", "score", "stream", "top_logprobs", "top_scores"})

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests` as they end. New rows join as others leave."""
        waiting, is_open, done = iter(requests), True, 0
        asked: dict[Generation, Asked] = {}
        writer = None
        while not cancel.is_set():
            came: Iterator[Reply] = iter(())
            if is_open and (writer is None or writer.wants_more):
                window = list(islice(waiting, self.options.batch_rows * BORDERS.window_batches))
                is_open = bool(window)
                if window:
                    writer = writer or self._writer(emit)
                    came = self._take_in(window, writer, asked, cancel)
            elif writer is None or writer.is_idle:
                return
            else:
                came = iter([self.rows.reply(asked.pop(row), row, row.elapsed_s) for row in writer.step()])
            for reply in came:
                yield reply
                done += reply.status != "error"
                emit(Progressed("student", done, 0, "replies"))

    def _take_in(self, window: Sequence[Request], writer: BatchDecoder, asked: dict[Generation, Asked],
                 cancel: Cancel) -> Iterator[Reply]:
        """Hand what is to be written to `writer`; replies to the rest: scored, or refused."""
        from localdistill.modelfiles.torch_decoding import Generation

        scored: list[tuple[Request, list[ScoringTarget]]] = []
        rows: list[Generation] = []
        for request in window:
            try:
                require(self, needed_by(request))
                if request.kind == "score":
                    scored.append((request, self._targets(request)))
                    continue
                one = self.rows.asked(request)
            except (TemplateRefused, UsageError, Unscorable) as refusal:
                yield Reply(request.id, "error", cost_usd=0.0, error=str(refusal))
                continue
            if one.room > 0:
                rows.append(Generation.of(one))
                asked[rows[-1]] = one
            else:
                yield self.rows.too_long(one)
        writer.add(rows)
        yield from self._score(scored, cancel)

    def _score(self, asked: Sequence[tuple[Request, list[ScoringTarget]]], cancel: Cancel) -> Iterator[Reply]:
        """Replies to requests to score. With a window, prefixes that only begin alike are read apart: the padding
        between what they share and what they do not would count in the window."""
        if not asked or cancel.is_set():
            return
        model = self.model
        from localdistill.engines._scoring import BatchScorer

        scorer = BatchScorer(model)
        yield from scored_replies(asked, lambda batch: scorer.run(batch, cancel), self.options.batch_rows,
                                  self.options.max_batch_tokens, branches=self.folder.window is None)

    def _write_one(self, asked: Asked, cancel: Cancel, on_token: Callable[[StudentRow], None]) -> None:
        from localdistill.modelfiles.torch_decoding import Generation

        writer = self._writer(silent, on_token)
        writer.add([Generation.of(asked)])
        while not writer.is_idle and not cancel.is_set():
            writer.step()

    def _arithmetic(self) -> Mapping[str, str]:
        from localdistill.modelfiles.loading import device_name, import_torch, pick_device, pick_dtype

        import_torch()
        device = pick_device(self.options.device)
        dtype = str(pick_dtype(self.options.dtype, device)).removeprefix("torch.")
        held = "nf4" if self.options.quantization == "nf4" else "as stored"
        return {"dtype": dtype, "device": device_name(device), "weights": held}

    def _writer(self, emit: Emit, on_token: Callable[[Generation], None] | None = None) -> BatchDecoder:
        """Writes rows with the student, which it loads."""
        model = self.model
        from localdistill.modelfiles.torch_decoding import BatchDecoder

        return BatchDecoder(model, self.tokenizer.decode, self.options.batch_rows, self.options.max_batch_tokens,
                            lambda text: emit(Warned(text)), on_token)

    def _loaded(self) -> AdaptedModel:
        from localdistill.modelfiles.adapted import AdaptedModel
        from localdistill.modelfiles.loading import import_torch, load_causal_model, pick_device, pick_dtype

        torch = import_torch()
        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        device, quantization = pick_device(self.options.device), self.options.quantization
        model = load_causal_model(self.folder, pick_dtype(self.options.dtype, device), device, quantization)
        return AdaptedModel(model, self.folder, merges=quantization == "none")
