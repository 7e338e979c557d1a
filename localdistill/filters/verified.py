"""Keeps traces that a grader found right and that ended as they should."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses


class VerifiedFilter(Chooses):
    """The `verified` filter."""

    name = "verified"
    version = 1

    class Options(BaseOptions):
        """Options of `verified`."""

        min_score: float = Field(default=1.0, ge=0, le=1)
        """Lowest score that is kept, from 0 to 1; 0 keeps every graded trace that is complete."""
        allow_ungraded: bool = False
        """Whether traces that no grader judged are kept."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        rows: list[dict[str, object]] = [
            {"score": 1.0}, {"score": 0.5}, {"score": None}, {"score": 1.0, "status": "length"},
        ]
        return (
            FilterSample(rows, [True, False, False, False]),
            FilterSample(rows, [True, True, True, False], options={"min_score": 0.5, "allow_ungraded": True}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def sql(self) -> str:
        """Complete, and scored high enough; never null."""
        ungraded = "TRUE" if self.options.allow_ungraded else "FALSE"
        return f"(status = 'complete' AND COALESCE(score >= {self.options.min_score!r}, {ungraded}))"
