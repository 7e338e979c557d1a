"""Keeps traces whose reasoning and answer together are neither too short nor too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses


class LengthFilter(Chooses):
    """The `length` filter."""

    name = "length"
    version = 1

    class Options(BaseOptions):
        """Options of `length`."""

        unit: Literal["tokens", "characters"] = "tokens"
        """What is counted: the teacher's completion tokens, or characters of reasoning and answer."""
        minimum: int = Field(default=0, ge=0)
        """Shortest that is kept; 0 is no lower limit."""
        maximum: int = Field(default=0, ge=0)
        """Longest that is kept; 0 is no upper limit."""
        keep_unknown: bool = True
        """Whether traces without a token count (imported ones) are kept when tokens are counted."""

        @model_validator(mode="after")
        def _check(self) -> LengthFilter.Options:
            if 0 < self.maximum < self.minimum:
                raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}")
            return self

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows = [{"completion_tokens": 9}, {"completion_tokens": 10}, {"completion_tokens": 0}]
        texts = [{"reasoning": "One and one.", "answer": "2"}, {"reasoning": "", "answer": "2"}]
        return (
            FilterSample(rows, [False, True, True], options={"minimum": 10}),
            FilterSample(rows, [True, False, False], options={"maximum": 9, "keep_unknown": False}),
            FilterSample(texts, [True, False], options={"unit": "characters", "minimum": 5}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def sql(self) -> str:
        """A range over the count; never null."""
        if self.options.unit == "tokens":
            count, unknown = "NULLIF(completion_tokens, 0)", "TRUE" if self.options.keep_unknown else "FALSE"
        else:
            count, unknown = "(LENGTH(COALESCE(reasoning, '')) + LENGTH(COALESCE(answer, '')))", "FALSE"
        limits = [f"{count} >= {self.options.minimum}"]
        if self.options.maximum:
            limits.append(f"{count} <= {self.options.maximum}")
        return f"COALESCE({' AND '.join(limits)}, {unknown})"
