"""Tasks whose file has columns of its own: each says what makes an item of a row, so that a benchmark is one file here
and needs no layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.records import Message, Prompt
from localdistill.tasks.items import FileTask, ItemSource


@dataclass(frozen=True)
class ItemRow:
    """A row of a benchmark's file. Names of columns are found in any case."""

    file: str
    number: int
    """As `rows_of` counts them."""
    values: Mapping[str, Any]

    def get(self, *names: str) -> Any:
        """What stands in the first of these columns that holds something; None where none does."""
        known = {str(key).lower(): value for key, value in self.values.items()}
        return next((value for name in names if (value := known.get(name.lower())) not in (None, "", [], {})), None)

    def text(self, *names: str) -> str:
        """The same as text. InputError where none of them holds any."""
        value = self.get(*names)
        if value is None or not str(value).strip():
            raise self.error(f"there is no '{names[0]}'")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def maybe(self, *names: str) -> str:
        """The same, empty where none of them holds any."""
        return "" if self.get(*names) is None else self.text(*names)

    def error(self, what: str) -> InputError:
        """The error `what` about this row."""
        return InputError(f"{self.file}, row {self.number}: {what}",
                          "give the benchmark's own file, as it was published")

    def prompt(self, question: str, reference: str | None = None, original: str | None = None, category: str = "",
               **metadata: object) -> Prompt:
        """An item of one question."""
        named = {"category": category} if category else {}
        return Prompt((Message("user", question),), reference, original, source=self.file,
                      metadata={**named, **metadata})


def rows_in(source: ItemSource, path: Path) -> Iterator[ItemRow]:
    """The rows of a file. InputError for one that is missing or cannot be read."""
    return (ItemRow(path.name, number, values) for number, values in source.rows(path))


class RowTask(FileTask):
    """Items out of the rows of a file, in their order. A member says what FileTask's do, in place of the layout what
    an item is."""

    def item(self, row: ItemRow) -> Prompt | None:
        """The item of a row; None where the row is none. InputError for a row without what it needs."""
        raise NotImplementedError

    def files(self) -> Iterable[Path]:
        """Where the rows are, in their order. InputError where there is no such file."""
        return (self.path,)

    def _items_of(self, source: ItemSource) -> Sequence[Prompt]:
        rows = (row for path in self.files() for row in rows_in(source, path))
        return self.some([item for row in rows if (item := self.item(row)) is not None])
