"""The contract of filters: which traces a selection keeps, as SQL where it can be, else over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from localdistill.core.means import Means, Need
from localdistill.core.options import Options
from localdistill.core.samples import FilterSample

if TYPE_CHECKING:
    import pyarrow as pa


class Filter(Protocol):
    """Keeps or removes traces. Built as `Member(options)`; `Chooses` has what most have in common."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[frozenset[Need]]
    from_user: ClassVar[bool]
    """A user wrote the SQL: it is worked out in a child that reaches nothing else."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of `trace_view` that it reads. One that is SQL says which of facts it names, so that a recipe
        without them is refused before anything runs."""

    @property
    def looks_ahead(self) -> bool:
        """It must see all rows before it can judge one."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""

    def begin(self, means: Means) -> None:
        """Called once, before everything else."""

    def sql(self) -> str | None:
        """A boolean SQL expression over `trace_view` that is true for kept rows, or None when it works on batches."""

    def prepare(self, batch: pa.RecordBatch) -> None:
        """Called with every batch before the first `keep` of a filter that looks ahead."""

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """One bool per row of a batch with `columns`. Called batch by batch in a fixed order, so it may remember what
        it saw. Only called when `sql` returns None."""

    def why(self, row: Mapping[str, Any]) -> str:
        """Why a row had to go that it removed, in one line: asked after `keep` of its batch, in the order of the rows,
        with the columns that it reads; of a filter that is SQL with those that its SQL names."""
