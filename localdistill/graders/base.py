"""The contract of graders: one verdict on one trace, with its reason and what was extracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.records import Grade, Prompt, Trace
from localdistill.core.samples import GraderSample


class Grader(Protocol):
    """Judges a trace's answer against its prompt. Built as `Member(options)`; `close` ends child processes."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when a verdict could change; part of the grade's name and of artifact digests."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""

    def applies(self, prompt: Prompt) -> bool:
        """Whether the prompt holds what this grader judges by; other prompts are left to other graders."""

    def grade(self, prompt: Prompt, trace: Trace) -> Grade:
        """The verdict. Never raises for model text, however odd: an unreadable answer is a score of 0 with a reason."""

    def close(self) -> None:
        """Free child processes. Harmless to call twice."""
