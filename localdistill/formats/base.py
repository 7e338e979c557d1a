"""The contract of formats: pure and deterministic, one trace and its prompt to one training example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.records import Example, Prompt, Skip, TokenCounter, Trace
from localdistill.core.samples import FormatSample


class Format(Protocol):
    """Lays one trace out as training text. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]
    thinks: ClassVar[bool]
    """Whether a student trained on this format thinks before it answers."""
    one_per_prompt: ClassVar[bool]
    """Whether the example is the prompt's own, the same for every trace. Several traces of one prompt then make one
    example, so that an epoch sees it once."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""

    def lay_out(self, prompt: Prompt, trace: Trace, count: TokenCounter) -> Example | Skip:
        """The example, or why this trace cannot serve this format. `count` counts the student's tokens."""
