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


class Lately:
    """What was said lately, each thing of its own name: files hold copies, and a copy brings nothing."""

    def __init__(self) -> None:
        self._new: dict[str, object] = {}
        self._old: dict[str, object] = {}

    def knows(self, name: str, said: object = None) -> bool:
        """Whether just this was said of `name` last; now it is."""
        known = self._new.get(name, _NOTHING)
        if known is _NOTHING:
            known = self._old.get(name, _NOTHING)
        elif known == said:
            return True
        self._new[name] = said
        if len(self._new) >= BORDERS.recent_names:
            self._old, self._new = self._new, {}
        return bool(known == said)


_NOTHING = object()


def without_copies(rows: Iterable[Imported]) -> Iterator[Imported]:
    """Rows that bring something that no row brought lately, a prompt, an answer, or another verdict on one; of their
    answers those that do."""
    prompts, answers = Lately(), Lately()
    for row in rows:
        is_known = prompts.knows(row.prompt.id)
        new = [one for one in row.answers if not answers.knows(one.trace.id, (one.right, one.said_by))]
        if new or not is_known:
            yield row if len(new) == len(row.answers) else Imported(row.prompt, tuple(new))


def in_batches(rows: Iterable[Imported]) -> Iterator[list[Imported]]:
    """Rows in lists that are stored together: so many, or so many answers, or so much text, whichever comes first."""
    batch: list[Imported] = []
    chars = answers = 0
    for row in rows:
        batch.append(row)
        chars += _chars(row)
        answers += len(row.answers)
        if max(len(batch), answers) >= BORDERS.imported_rows or chars >= BORDERS.imported_chars:
            yield batch
            batch, chars, answers = [], 0, 0
    if batch:
        yield batch


def _chars(row: Imported) -> int:
    chars = 0
    for message in row.prompt.messages:
        chars += len(message.content) + (len(str(beside)) if (beside := message.beside) else 0)
    for answer in row.answers:
        trace = answer.trace
        chars += len(trace.raw) + len(trace.reasoning) + len(trace.answer)
    return chars
