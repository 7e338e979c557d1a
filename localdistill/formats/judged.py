"""What formats share that show right and wrong answers to one prompt together: each answer is laid out by a format of
single traces, and stands on the side that its verdict says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pydantic import Field, model_validator

from localdistill.core.errors import UsageError
from localdistill.core.options import Options
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter
from localdistill.formats import FORMATS
from localdistill.formats.base import Format
from localdistill.formats.spans import skip

UNJUDGED = "nobody judged whether its answer is right"


class AnswerOptions(Options):
    """How each answer is laid out."""

    of: str = "answer_only"
    """The format of each answer: one that makes an example of every trace."""
    of_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that format."""

    @model_validator(mode="after")
    def _of_single_traces(self) -> AnswerOptions:
        try:
            inner = self.build()
        except UsageError as error:
            raise ValueError(f"of: {error.message}") from error
        if inner.grouping != "none" or inner.signs != {1}:
            raise ValueError(f"of: '{self.of}' makes groups itself; take a format of single traces")
        if self.of_options.get("every_turn"):
            raise ValueError("of_options: only the answers of one prompt can be compared, not every turn")
        return self

    def build(self) -> Format:
        """The format of each answer."""
        member = FORMATS.load(self.of)
        made: Format = member(member.Options.model_validate(self.of_options))
        return made


@dataclass
class Sides:
    """The examples of a prompt by verdict, in the order of the traces, and the traces that make none."""

    right: list[Example] = field(default_factory=list)
    wrong: list[Example] = field(default_factory=list)
    skips: list[Example | Skip] = field(default_factory=list)

    def leave(self, prompt: Prompt, examples: Sequence[Example], reason: str) -> None:
        """Leave `examples` out."""
        self.skips += [Skip(prompt.id, example.trace_id, reason) for example in examples]

    def one_sided(self) -> str:
        """Why nothing can be compared; empty where both sides are there."""
        if self.right and self.wrong:
            return ""
        return f"its prompt has no {'wrong' if self.right else 'right'} answer that can serve beside it"


class JudgedFormat:
    """Base of formats of right and wrong answers."""

    def __init__(self, options: AnswerOptions) -> None:
        self._answers = options

    @cached_property
    def _inner(self) -> Format:
        return self._answers.build()

    @property
    def thinks(self) -> bool:
        """As the format of each answer does."""
        return self._inner.thinks

    @property
    def signs(self) -> frozenset[int]:
        """Both."""
        return frozenset({1, -1})

    def sides(self, prompt: Prompt, candidates: Sequence[Candidate], count: TokenCounter) -> Sides:
        """Each trace as an example of its side."""
        found = Sides()
        for candidate in candidates:
            if candidate.passed is None:
                found.skips.append(skip(prompt, candidate.trace, UNJUDGED))
                continue
            for made in self._inner.lay_out(prompt, [candidate], count):
                if isinstance(made, Skip):
                    found.skips.append(made)
                elif candidate.passed:
                    found.right.append(made)
                else:
                    found.wrong.append(replace(made, sign=-1))
        return found
