"""Keeps what meets a condition that the user writes: SQL over the columns of a trace and over the facts of the recipe's
graders and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses


class WhereFilter(Chooses):
    """The `where` filter."""

    name = "where"
    version = 1
    from_user: ClassVar[bool] = True

    class Options(BaseOptions):
        """Options of `where`."""

        condition: str = Field("true", min_length=1)
        """SQL that is true for traces that stay, for example `score = 1 AND tokens_answer < 300`. A member's name is
        what it says, `<member>_<metric>` one of its metrics; `person` is a person's judgement, 0 or 1."""
        keep_unknown: bool = False
        """Whether traces stay for which the condition cannot be told, as a fact that it names is not known."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows: list[dict[str, object]] = [{"tokens": 12.0}, {"tokens": 500.0}, {"tokens": None}]
        short = {"condition": "tokens < 100 OR completion_tokens > 1000"}
        return (
            FilterSample(rows, [True, True, True]),
            FilterSample(rows, [True, False, False], options=short),
            FilterSample(rows, [True, False, True], options={**short, "keep_unknown": True}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def sql(self) -> str:
        """The condition; one that cannot be told is not true."""
        said = self.options.condition
        return f"coalesce((\n{said}\n)::BOOLEAN, TRUE)" if self.options.keep_unknown else said
