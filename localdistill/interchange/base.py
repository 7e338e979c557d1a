"""The contract of layouts: reading and writing rows of prompts and traces that other tools made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from localdistill.core.borders import BORDERS
from localdistill.core.records import PUBLISHED, Fact, Prompt, Trace
from localdistill.core.samples import LayoutSample


@dataclass(frozen=True)
class Answer:
    """One answer of a row, and what the row says of it."""

    trace: Trace
    right: bool | None = None
    """The row's own verdict; None where it states none."""
    said_by: str = ""
    """The column that states the verdict."""

    @property
    def fact(self) -> Fact | None:
        """The verdict as a fact; None where there is none."""
        if self.right is None:
            return None
        by, version, _ = PUBLISHED
        return Fact(self.trace.id, by, version, self.said_by, "published", float(self.right), self.right,
                    reason=f"'{self.said_by}' of the row that it came with")


@dataclass(frozen=True)
class Imported:
    """One row as read: a prompt, and the answers of models that the row holds."""

    prompt: Prompt
    answers: tuple[Answer, ...] = ()

    @property
    def trace(self) -> Trace | None:
        """The only answer, or the first; None where there is none."""
        return self.answers[0].trace if self.answers else None


def in_batches(rows: Iterable[Imported]) -> Iterator[list[Imported]]:
    """Rows in lists that are stored together: so many, or so much text, whichever comes first."""
    batch: list[Imported] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += _chars(row)
        if len(batch) >= BORDERS.imported_rows or chars >= BORDERS.imported_chars:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _chars(row: Imported) -> int:
    texts = [message.content for message in row.prompt.messages]
    return sum(map(len, texts)) + sum(len(answer.trace.raw) + len(answer.trace.reasoning) + len(answer.trace.answer)
                                      for answer in row.answers)


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
