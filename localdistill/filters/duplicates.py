"""Removes traces that repeat one seen before, and where asked all but one trace of each prompt.

Two traces repeat each other when their questions and answers are equal apart from case and white space; the first in
the order of the batches stays. Keeping the shortest trace of each prompt takes two passes: `prepare` over all rows
first, then `keep`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from localdistill.core.errors import UsageError
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses

if TYPE_CHECKING:
    import pyarrow as pa


class DuplicatesFilter(Chooses):
    """The `duplicates` filter. One instance judges one pass over the rows."""

    name = "duplicates"
    version = 1
    columns: Sequence[str] = ("prompt_id", "question", "reasoning", "answer")

    class Options(BaseOptions):
        """Options of `duplicates`."""

        compare: Literal["answer", "reasoning_and_answer"] = "answer"
        """Which texts of two traces of one question must be equal for them to be duplicates."""
        per_prompt: Literal["all", "first", "shortest"] = "all"
        """How many traces of one prompt stay: all that differ, the first, or the one with the fewest characters."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows = [
            {"prompt_id": "p", "question": "1 + 1?", "reasoning": "One and one.", "answer": "It is 2."},
            {"prompt_id": "p", "question": "1 + 1?", "reasoning": "Easy.", "answer": "it  is 2."},
            {"prompt_id": "q", "question": "2 + 0?", "reasoning": "Easy.", "answer": "It is 2."},
        ]
        return (
            FilterSample(rows, [True, False, True]),
            FilterSample(rows, [True, True, True], options={"compare": "reasoning_and_answer"}),
            FilterSample(rows, [False, True, True], options={"per_prompt": "shortest"}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._seen: set[bytes] = set()
        self._chosen: dict[str, int] = {}
        """Length of the trace that stays, by prompt; -1 once it went by."""
        self.looks_ahead = self.options.per_prompt == "shortest"

    def prepare(self, batch: pa.RecordBatch) -> None:
        """Learn the shortest length per prompt."""
        for prompt_id, _, reasoning, answer in self._rows(batch):
            length = len(reasoning) + len(answer)
            self._chosen[prompt_id] = min(length, self._chosen.get(prompt_id, length))

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """False for every row that repeats an earlier one. Raises UsageError when `prepare` did not see the row's
        prompt though it had to."""
        return [self._keep(*row) for row in self._rows(batch)]

    def why(self, row: Mapping[str, Any]) -> str:
        """What of it was there before."""
        if self.options.per_prompt == "all":
            return f"an earlier trace of the same question has the same {self.options.compare.replace('_', ' ')}"
        return f"another trace of its prompt is the {self.options.per_prompt}, or has the same answer"

    def _rows(self, batch: pa.RecordBatch) -> Iterator[tuple[str, str, str, str]]:
        columns = [batch.column(name).to_pylist() for name in self.columns]
        for prompt_id, question, reasoning, answer in zip(*columns):
            yield prompt_id, question or "", reasoning or "", answer or ""

    def _keep(self, prompt_id: str, question: str, reasoning: str, answer: str) -> bool:
        if self.options.per_prompt != "all" and not self._is_chosen(prompt_id, len(reasoning) + len(answer)):
            return False
        key = _key(question, answer, reasoning if self.options.compare == "reasoning_and_answer" else "")
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _is_chosen(self, prompt_id: str, length: int) -> bool:
        """Whether this is the trace of its prompt that stays; true once per prompt."""
        wanted = self._chosen.get(prompt_id)
        if wanted is None and self.options.per_prompt == "shortest":
            raise UsageError("the filter did not see all traces before it was asked", "call `prepare` first")
        if wanted is not None and wanted != length:
            return False
        self._chosen[prompt_id] = -1
        return True


def _key(*texts: str) -> bytes:
    joined = "\0".join(" ".join(text.casefold().split()) for text in texts)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()
