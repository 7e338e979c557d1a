"""The contract of formats: pure and deterministic, the traces of one prompt in a set to training examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from localdistill.core.losses import Grouping
from localdistill.core.options import Options
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter
from localdistill.core.samples import FormatSample


class Format(Protocol):
    """Lays the traces of a prompt out as training text. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def thinks(self) -> bool:
        """Whether a student trained on this format thinks before it answers."""

    @property
    def signs(self) -> frozenset[int]:
        """Of the examples that it makes: +1 for what to do, -1 for what not to do."""

    @property
    def grouping(self) -> Grouping:
        """What every group that it makes holds."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """All examples that the traces of a prompt make. A trace that is in none of them is in one Skip that says why.
        `count` counts the student's tokens."""
