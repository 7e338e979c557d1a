"""What a layout reads from one row: a prompt, and the answers of models with what the row says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from localdistill.core.borders import BORDERS
from localdistill.core.records import PUBLISHED, Fact, Prompt, Trace


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

    @property
    def uses_tools(self) -> bool:
        """Some are defined, called or answer in it."""
        return any(turn.role == "tool" or turn.tools or turn.tool_calls for turn in self.prompt.messages) or any(
            answer.trace.tool_calls for answer in self.answers)


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
    chars = 0
    for message in row.prompt.messages:
        chars += len(message.content) + (len(str(beside)) if (beside := message.beside) else 0)
    for answer in row.answers:
        chars += len(answer.trace.raw) + len(answer.trace.reasoning) + len(answer.trace.answer)
    return chars
