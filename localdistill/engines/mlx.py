"""The student under test in MLX: a base model, alone or with an adapter as it was trained, on Apple's GPUs or the CPU
of Linux. It runs in the process of the stage that asks, and answers as many at once as it may hold, each finished row
making room for the next. Must not train or download."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import TemplateRefused, UsageError
from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.core.options import FileName
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.engines._continuations import ScoringTarget, Unscorable, scored_replies
from localdistill.engines._student import StudentEngine, StudentOptions
from localdistill.modelfiles.mlx_held import is_held, load_held
from localdistill.modelfiles.mlx_models import MlxDtype, held_as, load_mlx_model, mlx_dtype
from localdistill.modelfiles.student_rows import Asked, StudentRow

if TYPE_CHECKING:
    from localdistill.modelfiles.mlx_adapter import AdaptedMlxModel
    from localdistill.modelfiles.mlx_decoding import MlxRow

SCORED_AT_ONCE = 8
"""Requests to score are gathered for so many batches, so that those with a common beginning come together."""


class MlxEngine(StudentEngine):
    """Answers with a student in MLX."""

    class Options(StudentOptions):
        """Options of the MLX engine."""

        dtype: Literal["auto", "float32", "bfloat16"] = "auto"
        """Arithmetic; `auto` is bfloat16 on chips that compute it (M3 and later), else float32."""
        quantization: Literal["none", "4bit", "8bit"] = "none"
        """How the student's linear layers are held. `4bit` and `8bit` answer as a student whose adapter was trained on
        such weights: the adapter stays beside them. `none` merges the adapter into the stored weights."""
        held: FileName = ""
        """Folder of the student in few bits, as a training kept it; empty, and for another arithmetic, the layers are
        quantized anew."""

    name = "mlx"

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        files = {"student/config.json": "{}", "student/tokenizer.json": "{}"}
        return (
            EngineSample(options={"model": "absent"}, refused="there is no model folder"),
            EngineSample(files=files, options={"model": "student"}, refused="architectures None is not supported"),
            EngineSample(options={"model": "absent", "quantization": "nf4"}, refused="quantization"),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    @property
    def context_length(self) -> int:
        """Without what lies beyond the student's window, which mlx-lm does not compute for these kinds."""
        return self.folder.mlx_context_length

    def identity(self) -> str:
        """As of every student, and how its layers are held."""
        held = self._held_as()
        return super().identity() + (f"+{held}" if held else "")

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset({"generate", "continue_text", "score", "stream", "top_logprobs", "top_scores"})

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Replies to `requests`; those to write are pulled as room comes free."""
        waiting, done = iter(requests), 0
        most = self.options.batch_rows * SCORED_AT_ONCE
        while not cancel.is_set() and (first := next(waiting, None)) is not None:
            scored: list[tuple[Request, list[ScoringTarget]]] = []
            refused: list[Reply] = []
            asked: dict[int, tuple[Asked, float]] = {}

            def rows(first: Request = first, scored: list[tuple[Request, list[ScoringTarget]]] = scored,
                     refused: list[Reply] = refused, asked: dict[int, tuple[Asked, float]] = asked
                     ) -> Iterator[MlxRow]:
                request: Request | None = first
                while request is not None:
                    if (row := self._taken(request, scored, refused, asked)) is not None:
                        yield row
                    if len(scored) + len(refused) >= most:
                        return
                    request = next(waiting, None)

            for row in self._decoder().run(rows(), cancel):
                one, began = asked.pop(id(row))
                done += 1
                emit(Progressed("student", done, 0, "replies"))
                yield self.rows.reply(one, row, time.monotonic() - began)
            yield from refused
            for reply in self._score(scored, cancel):
                done += 1
                emit(Progressed("student", done, 0, "replies"))
                yield reply

    def _taken(self, request: Request, scored: list[tuple[Request, list[ScoringTarget]]], refused: list[Reply],
               asked: dict[int, tuple[Asked, float]]) -> MlxRow | None:
        """The row to write for `request`; None, and noted, when it is to be scored or cannot be answered."""
        try:
            require(self, needed_by(request))
            if request.kind == "score":
                scored.append((request, self._targets(request)))
                return None
            one = self.rows.asked(request)
        except (TemplateRefused, UsageError, Unscorable) as refusal:
            refused.append(Reply(request.id, "error", cost_usd=0.0, error=str(refusal)))
            return None
        if one.room <= 0:
            refused.append(self.rows.too_long(one))
            return None
        from localdistill.modelfiles.mlx_decoding import MlxRow

        row = MlxRow.of(one)
        asked[id(row)] = one, time.monotonic()
        return row

    def _score(self, asked: Sequence[tuple[Request, list[ScoringTarget]]], cancel: Cancel) -> Iterator[Reply]:
        """Replies to requests to score."""
        if not asked or cancel.is_set():
            return
        from localdistill.engines._mlx_scoring import MlxScorer

        scorer = MlxScorer(self.model, self.folder.tied_embeddings, self.folder.kind.logit_cap(self.folder.config))
        yield from scored_replies(asked, lambda batch: scorer.run(batch, cancel), self.options.batch_rows,
                                  self.options.max_batch_tokens, branches=True)

    def _write_one(self, asked: Asked, cancel: Cancel, on_token: Callable[[StudentRow], None]) -> None:
        from localdistill.modelfiles.mlx_decoding import MlxRow

        for _ in self._decoder().run([MlxRow.of(asked)], cancel, on_token):
            pass

    def _decoder(self) -> Any:
        from localdistill.modelfiles.mlx_decoding import MlxDecoder

        return MlxDecoder(self.model, self.tokenizer.decode, self.options.batch_rows, self.options.max_batch_tokens)

    def _arithmetic(self) -> Mapping[str, str]:
        held = "as stored" if self.options.quantization == "none" else self.options.quantization
        return {"dtype": mlx_dtype(self.options.dtype), "device": "mlx", "weights": held}

    def _held_as(self) -> str:
        return held_as(self.folder, self.options.quantization)

    def _loaded(self) -> AdaptedMlxModel:
        """The base, compared with transformers before its first answer."""
        from localdistill.modelfiles.mlx_checking import require_same_logits

        require_same_logits(self.folder)
        from localdistill.modelfiles.mlx_adapter import AdaptedMlxModel

        dtype = mlx_dtype(self.options.dtype)
        return AdaptedMlxModel(self._bare(dtype), self.folder, dtype, merges=self.options.quantization == "none")

    def _bare(self, dtype: MlxDtype) -> Any:
        """The student without an adapter."""
        holding, kept = self.options.quantization, self.options.held
        if kept and holding != "none" and is_held(self.folder, holding, dtype, Path(kept)):
            return load_held(self.folder, holding, dtype, Path(kept))
        return load_mlx_model(self.folder, dtype, holding)
