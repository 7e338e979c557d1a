"""One row of a file as layouts see it: a mapping that knows what was asked of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any


class Row(Mapping[str, Any]):
    """A row of a file that remembers which of its columns were asked for, so that those that nobody used are named."""

    __slots__ = ("_having", "_values", "used")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._having = _found_in(tuple(values))
        self.used: set[str] = set()

    def having(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that are columns, in their order; worked out once for all rows of the same columns."""
        found = self._having.get(names)
        if found is None:
            found = self._having[names] = tuple(name for name in names if name in self._values)
        return found

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a mapping; faster than the inherited one, which is called for every column of every row."""
        self.used.add(key)
        return self._values.get(key, default)

    def peek(self, key: str) -> Any:
        """What stands in a column, which stays unused."""
        return self._values.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unused(self) -> list[str]:
        """Columns that hold something and were not asked for."""
        if not (left := self._values.keys() - self.used):
            return []
        return [key for key, value in self._values.items() if key in left and is_stated(value)]


@lru_cache(maxsize=256)
def _found_in(columns: tuple[str, ...]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What was looked for so far in rows of these columns, and what of it they have."""
    return {}


def having(row: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that are columns of the row, in their order."""
    return row.having(names) if isinstance(row, Row) else tuple(name for name in names if name in row)


def peeked(row: Mapping[str, Any], column: str) -> Any:
    """What stands in a column that may turn out to be of no use."""
    return row.peek(column) if isinstance(row, Row) else row.get(column)


def is_stated(value: object) -> bool:
    """False for what stands for nothing: null, NaN, an empty text, list or object."""
    return not (value is None or value in ("", [], {}) or (isinstance(value, float) and math.isnan(value)))
