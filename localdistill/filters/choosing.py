"""What most filters have in common: they need nothing, look at rows one by one, and are SQL or work on batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from localdistill.core.means import Means, Need

if TYPE_CHECKING:
    import pyarrow as pa


class Chooses:
    """Defaults of the contract `Filter`. A member brings `sql`, or `columns` and `keep`."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    from_user: ClassVar[bool] = False
    columns: Sequence[str] = ()
    looks_ahead: bool = False

    def begin(self, means: Means) -> None:
        """Nothing is needed."""

    def sql(self) -> str | None:
        """Not SQL: this filter works on batches."""
        return None

    def prepare(self, batch: pa.RecordBatch) -> None:
        """Nothing is to be learned first."""

    def keep(self, batch: pa.RecordBatch) -> Sequence[bool]:
        """Not used by a filter that is SQL."""
        raise NotImplementedError("this filter is SQL")
