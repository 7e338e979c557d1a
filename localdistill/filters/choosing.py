"""What most filters have in common: they need nothing, look at rows one by one, and are SQL or work on batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from localdistill.core.means import Means, Need

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_CHARS = 60


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

    def why(self, row: Mapping[str, Any]) -> str:
        """What it saw in the row."""
        return ", ".join(f"{column} {_shown(value)}" for column, value in row.items()) or "not kept"


def _shown(value: object) -> str:
    """A value of a column, short."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:g}"
    text = " ".join(str(value).split())
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...") if isinstance(value, str) else text
