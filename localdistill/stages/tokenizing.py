"""From the traces of a prompt to the student's tokens, in one way: the format stage trains on what this makes, and
whoever shows a trace as training text shows the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from localdistill.core.records import Candidate, Example, Prompt, Skip
from localdistill.formats import FORMATS
from localdistill.formats.base import Format
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow, tokenize_example
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from localdistill.templates import ChatTemplate
from localdistill.templates.marks import OURS


def format_of(member: Member, base: Path) -> Format:
    """The format of a part of an arm, with its options."""
    made: Format = build_member(FORMATS, member, base)
    return made


def way_to_think(formats: Iterable[Format]) -> bool | None:
    """Whether rows of these formats teach to think; None where some do and some do not."""
    ways = {one.thinks for one in formats}
    return ways.pop() if len(ways) == 1 else None


def trained_tags(tokenizer: StudentTokenizer, thinks: bool | None) -> tuple[int, ...]:
    """The think tags that are single tokens of the student, where it learns to think: a base that never thought has
    never trained their rows."""
    ids = () if thinks is False else (tokenizer.token_id(tag) for tag in (OURS.opening, OURS.closing))
    return tuple(i for i in ids if i is not None)


class TraceTokenizer:
    """Makes rows for one student, whose tokenizer and template are read once. ModelFileError when they cannot be read,
    MissingExtra without the tokenizer library."""

    def __init__(self, student: Path, max_tokens: int) -> None:
        self.tokenizer = StudentTokenizer(student)
        self._template = ChatTemplate.from_folder(student)
        self._max_tokens = max_tokens

    def rows(self, form: Format, prompt: Prompt, candidates: Sequence[Candidate]) -> list[TokenizedRow | Skip]:
        """The traces of one prompt in one format as the student's tokens, and why some make no row. A group with a row
        that cannot be made is left out whole."""
        return [row for _, row in self.laid_out(form, prompt, candidates)]

    def laid_out(self, form: Format, prompt: Prompt,
                 candidates: Sequence[Candidate]) -> list[tuple[Example | Skip, TokenizedRow | Skip]]:
        """The same, each with the example that it is of."""
        made = [(example, example if isinstance(example, Skip) else
                 tokenize_example(example, self._template, self.tokenizer, self._max_tokens))
                for example in form.lay_out(prompt, candidates, self.tokenizer.count)]
        broken = {example.group: row.reason for example, row in made
                  if isinstance(row, Skip) and not isinstance(example, Skip) and example.group}
        return [(example, Skip(row.prompt_id, row.trace_id, f"left out with its group: {broken[row.group]}")
                 if isinstance(row, TokenizedRow) and row.group in broken else row) for example, row in made]
