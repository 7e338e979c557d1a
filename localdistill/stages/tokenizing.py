"""From a trace to the student's tokens, in one way: the format stage trains on what this makes, and whoever shows a
trace as training text shows the same."""

from __future__ import annotations

from pathlib import Path

from localdistill.core.records import Prompt, Skip, Trace
from localdistill.formats import FORMATS
from localdistill.formats.base import Format
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow, tokenize_example
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from localdistill.templates import ChatTemplate


def format_of(member: Member, base: Path) -> Format:
    """The format of a part of an arm, with its options."""
    made: Format = build_member(FORMATS, member, base)
    return made


class TraceTokenizer:
    """Makes rows for one student, whose tokenizer and template are read once. ModelFileError when they cannot be read,
    MissingExtra without the tokenizer library."""

    def __init__(self, student: Path, max_tokens: int) -> None:
        self.tokenizer = StudentTokenizer(student)
        self._template = ChatTemplate.from_folder(student)
        self._max_tokens = max_tokens

    def row(self, form: Format, prompt: Prompt, trace: Trace) -> TokenizedRow | Skip:
        """One trace in one format as the student's tokens, or why not."""
        example = form.lay_out(prompt, trace, self.tokenizer.count)
        if isinstance(example, Skip):
            return example
        return tokenize_example(example, self._template, self.tokenizer, self._max_tokens)
