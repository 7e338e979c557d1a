"""Removes traces whose question holds an evaluation item, so that a score measures more than memory.

The caller passes the questions and answers of the evaluation items; this file does not know tasks. A question is
removed when it has exactly an item's words, holds at least a share `threshold` of its word n-grams, or shares `close`
shorter runs of words and marks with it; a trace, when it quotes an item's answer. Each question is judged alone; an
item spread over several training questions is only seen by `overlap.contaminated`. What says the same in other words is
not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from localdistill.core.errors import UsageError
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses
from localdistill.filters.overlap import NGRAM, THRESHOLD, GoldIndex, ItemIndex

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_CHARS = 80


class ContaminationFilter(Chooses):
    """The `contamination` filter."""

    name = "contamination"
    version = 3
    needs: ClassVar[frozenset[Need]] = frozenset({"items"})
    columns: Sequence[str] = ("question", "reasoning", "answer")

    class Options(BaseOptions):
        """Options of `contamination`."""

        against: tuple[str, ...] = ()
        """Names of the tasks whose items must not be trained on; empty means the tasks that this recipe evaluates."""
        ngram: int = Field(default=NGRAM, ge=2, le=100)
        """Length of the word runs that are compared, in words."""
        threshold: float = Field(default=THRESHOLD, gt=0, le=1)
        """Share of an item's word runs that makes a question count as holding it; 1 means all of them."""
        close: int = Field(default=5, ge=0)
        """How many shorter runs of words and marks a question may not share with one item: what was changed a little is
        found by it, and questions after the same pattern. Runs that many items have do not count, those in drawings
        only where they are 13 long. 3 finds more, and takes more turns of phrase for items; 0 looks at none."""
        close_ngram: int = Field(default=8, ge=2, le=100)
        """Length of those runs, in words and marks."""
        gold: int = Field(default=8, ge=0)
        """An item's answer of so many words and marks or more may stand in no trace; shorter ones say nothing. 0 looks
        at none."""
        mask_numbers: bool = False
        """Whether all numbers count as equal, so that an item with other numbers is found too."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        item = "How many eggs does the red hen on the old farm lay in one week?"
        close = "Say how many eggs does the red hen on the old farm lay when it rains."
        gold = "Each morning the hen lays two of them, so it is 14."
        return (
            FilterSample([{"question": item.upper()}, {"question": "How many legs has a hen?"}], [False, True],
                         items=[item]),
            FilterSample([{"question": close}], [False], items=[item]),
            FilterSample([{"question": close}], [True], items=[item], options={"close": 0}),
            FilterSample([{"question": "Why?", "answer": f"As {gold.lower()}"}, {"question": "Why?", "answer": "14"}],
                         [False, True], items=[item], golds=[gold]),
            FilterSample([{"question": "How many legs has a hen?"}], [True], refused="no evaluation items"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._items: Sequence[str] = ()
        self._golds: Sequence[str] = ()
        self._why: dict[str, str] = {}

    def begin(self, means: Means) -> None:
        """Take the items. Raises UsageError when there are none."""
        self._items, self._golds = means.items, means.golds
        if not self._items:
            raise UsageError("the contamination filter was given no evaluation items", "name a task in `against`")

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """False for questions that hold an item, and traces that quote the answer to one."""
        return [not self.why(row) for row in batch.to_pylist()]

    def why(self, row: Mapping[str, Any]) -> str:
        """What of which item is there."""
        reason = self._of_question(str(row.get("question") or ""))
        if reason or self._quotes is None:
            return reason
        index = self._quotes.quoted_in(f"{row.get('reasoning') or ''}\n{row.get('answer') or ''}")
        return "" if index < 0 else f"quotes the answer to the item '{self._items[index][:_SHOWN_CHARS]}'"

    def _of_question(self, question: str) -> str:
        """Samples of one prompt come together, so only the last questions are remembered."""
        if question not in self._why:
            if len(self._why) > 10_000:
                self._why.clear()
            index, how = next((found for one in self._indices if (found := one.why(question))[0] >= 0), (-1, ""))
            self._why[question] = f"{how} the item '{self._items[index][:_SHOWN_CHARS]}'" if how else ""
        return self._why[question]

    @cached_property
    def _indices(self) -> Sequence[ItemIndex]:
        chosen = self.options
        long = ItemIndex(self._items, chosen.ngram, chosen.threshold, chosen.mask_numbers)
        if not chosen.close:
            return (long,)
        return long, ItemIndex(self._items, chosen.close_ngram, mask_numbers=chosen.mask_numbers, least=chosen.close)

    @cached_property
    def _quotes(self) -> GoldIndex | None:
        return GoldIndex(self._golds, self.options.gold) if self.options.gold and any(self._golds) else None
