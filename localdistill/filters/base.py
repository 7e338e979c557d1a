"""The contract of filters: which traces a selection keeps, as SQL where it can be, else over batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.samples import FilterSample

if TYPE_CHECKING:
    import pyarrow as pa


class Filter(Protocol):
    """Keeps or removes traces. Built as `Member(options)`. A filter that must see all rows before it can judge one
    also has `prepare(batch)`, called with every batch before the first `keep`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""

    def sql(self) -> str | None:
        """A boolean SQL expression over the columns of the store's view `trace_view` that is true for kept rows,
        or None when this filter works on batches."""

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """One bool per row of a batch of `trace_view` (columns `batch_columns`). Called batch by batch in a fixed
        order, so it may remember what it saw. Only called when `sql` returns None."""

    @property
    def batch_columns(self) -> Sequence[str]:
        """The columns that `keep` needs."""
