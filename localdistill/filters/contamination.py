"""Removes traces whose question holds an evaluation item, so that a score measures more than memory.

The caller passes the questions of the evaluation items; this file does not know tasks. A question is removed when it
holds at least a share `threshold` of some item's word n-grams, or has exactly its words. Each question is judged
alone; an item spread over several training questions is only seen by `overlap.contaminated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from localdistill.core.errors import UsageError
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses
from localdistill.filters.overlap import NGRAM, THRESHOLD, ItemIndex

if TYPE_CHECKING:
    import pyarrow as pa


class ContaminationFilter(Chooses):
    """The `contamination` filter."""

    name = "contamination"
    version = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"items"})
    columns: Sequence[str] = ("question",)

    class Options(BaseOptions):
        """Options of `contamination`."""

        against: tuple[str, ...] = ()
        """Names of the tasks whose items must not be trained on; empty means the tasks that this recipe evaluates."""
        ngram: int = Field(default=NGRAM, ge=2, le=100)
        """Length of the word runs that are compared, in words."""
        threshold: float = Field(default=THRESHOLD, gt=0, le=1)
        """Share of an item's word runs that makes a question count as holding it; 1 means all of them."""
        mask_numbers: bool = False
        """Whether all numbers count as equal, so that an item with other numbers is found too."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        item = "How many eggs does the red hen on the old farm lay in one week?"
        return (
            FilterSample([{"question": item.upper()}, {"question": "How many legs has a hen?"}], [False, True],
                         items=[item]),
            FilterSample([{"question": "How many legs has a hen?"}], [True], refused="no evaluation items"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._items: Sequence[str] = ()
        self._verdicts: dict[str, bool] = {}

    def begin(self, means: Means) -> None:
        """Take the items. Raises UsageError when there are none."""
        self._items = means.items
        if not self._items:
            raise UsageError("the contamination filter was given no evaluation items", "name a task in `against`")

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """False for questions that hold an item."""
        return [self._is_clean(str(question or "")) for question in batch.column("question").to_pylist()]

    def _is_clean(self, question: str) -> bool:
        """Samples of one prompt come together, so only the last questions are remembered."""
        if question not in self._verdicts:
            if len(self._verdicts) > 10_000:
                self._verdicts.clear()
            self._verdicts[question] = not self._index.found_in([question])
        return self._verdicts[question]

    @cached_property
    def _index(self) -> ItemIndex:
        chosen = self.options
        return ItemIndex(self._items, chosen.ngram, chosen.threshold, chosen.mask_numbers)
