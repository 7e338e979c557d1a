"""Keeps the traces of some teachers: for an arm of its own, where several teachers answered the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses

if TYPE_CHECKING:
    import pyarrow as pa


class TeacherFilter(Chooses):
    """The `teacher` filter."""

    name = "teacher"
    version = 1
    columns: Sequence[str] = ("model",)

    class Options(BaseOptions):
        """Options of `teacher`."""

        models: tuple[str, ...] = ("*",)
        """Patterns of model identities with `*` and `?`, any case, for example `*/deepseek-*`; one must match."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows: list[dict[str, object]] = [
            {"model": "api.deepseek.com/deepseek-v4"}, {"model": "sha256:abc"}, {"model": None},
        ]
        return (
            FilterSample(rows, [True, True, True]),
            FilterSample(rows, [True, False, False], options={"models": ["*/DeepSeek-*"]}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._patterns = [pattern.casefold() for pattern in self.options.models]

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """Whether any pattern matches the model that answered."""
        models = [(name or "").casefold() for name in batch.column("model").to_pylist()]
        return [any(fnmatchcase(model, pattern) for pattern in self._patterns) for model in models]
