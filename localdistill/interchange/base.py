"""The contract of layouts: reading and writing rows of prompts and traces that other tools made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from localdistill.core.samples import LayoutSample
from localdistill.interchange.imported import Imported


class Layout(Protocol):
    """One layout of JSON rows. Built as `Member()`."""

    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """True when a row of a file looks like this layout (cheap, exact keys; never raises)."""

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The row's content. `number` counts from 1. Raises InputError that names the row and what is missing."""

    def write(self, item: Imported) -> Mapping[str, Any]:
        """The row that `read` turns back into the same prompt and answers, as far as the layout can hold them;
        InputError for what it cannot hold at all."""


Rows = Iterator[tuple[int, Mapping[str, Any]]]
