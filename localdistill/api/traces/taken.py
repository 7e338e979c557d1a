"""What goes out, item by item, wherever it is from: the contract between what chooses and what writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from localdistill.interchange.imported import Imported

RowUnit = Literal["answer", "pair", "prompt"]
NO_PROMPT = "its prompt is not stored"


@dataclass(frozen=True)
class Taken:
    """What one row is made of."""

    item: Imported
    facts: int = 0
    """Things that are said of it and stand in no row."""


class Source(Protocol):
    """Where rows come from."""

    @property
    def said(self) -> Mapping[str, str]:
        """What was chosen, for the card."""

    def items(self, unit: RowUnit) -> Iterator[Taken | str]:
        """What the rows are made of, one by one, or why a trace is in none."""

    def token_rows(self) -> Iterator[Mapping[str, Any]]:
        """The rows of a dataset as the student's tokens; UsageError where there is none."""
