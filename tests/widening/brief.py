"""Keeps answers of few tokens, as the label `tokens` counted them: an example of a filter over a fact."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses


class BriefFilter(Chooses):
    """The `brief` filter."""

    name = "brief"
    version = 1

    class Options(BaseOptions):
        """Options of `brief`."""

        most: int = Field(200, ge=1)
        """Most tokens of an answer that stays."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows: list[dict[str, object]] = [{"tokens_answer": 12.0}, {"tokens_answer": 500.0}]
        return (FilterSample(rows, [True, False]), FilterSample(rows, [True, True], options={"most": 500}))

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def sql(self) -> str:
        """A comparison."""
        return f"tokens_answer <= {self.options.most}"
