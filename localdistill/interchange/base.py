"""The contract of layouts: reading and writing rows of prompts and traces that other tools made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from localdistill.core.errors import InputError
from localdistill.core.samples import LayoutSample
from localdistill.interchange.imported import Imported

Shape = str | Sequence["Shape"] | Mapping[str, "Shape"]
"""What a column holds: `text`, `flag`, `json` (anything), a list of one shape, or an object of named ones."""
Rows = Iterator[tuple[int, Mapping[str, Any]]]
Reasoning = Literal["field", "tags", "kept"]
"""Where a written row has reasoning: in a field, in think tags, or in tags exactly where the trace came so."""


@dataclass(frozen=True)
class Writing:
    """How a layout writes."""

    columns: Mapping[str, Shape]
    """Every column that a row may have."""
    reasoning: tuple[Reasoning, ...]
    """Where it can have reasoning, the usual first."""
    loses: frozenset[str] = frozenset()
    """What its rows cannot hold, by the names of `interchange.losses`."""
    a_row: Literal["answer", "pair", "prompt"] = "answer"
    """What a row is of: one answer, a right and a wrong one, or a prompt alone."""
    read_by: Mapping[str, str] = field(default_factory=dict)
    """Tools of others that read such rows -> how they are told to."""
    with_tools: Mapping[str, Shape] | None = None
    """Columns beside or in place of those in a file whose rows define or call tools; None: no row can."""


class Layout(Protocol):
    """One layout of JSON rows. Built as `Member()`."""

    name: ClassVar[str]
    writing: ClassVar[Writing | None]
    """None: it is only read."""

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """True when a row of a file looks like this layout (cheap, exact keys; never raises)."""

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The row's content. `number` counts from 1. Raises InputError that names the row and what is missing."""

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """The row that `read` turns back, but for what it `loses`; InputError for what it cannot hold at all."""


class ReadOnly:
    """What a layout that is only read has in place of writing."""

    writing: ClassVar[Writing | None] = None

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """InputError."""
        raise InputError("this layout is only read", "`localdistill data layouts` names those that are written")
