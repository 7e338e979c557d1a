"""Formats in which every trace makes an example of its own, whatever else its prompt has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from localdistill.core.losses import Grouping
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter, Trace


class SinglyFormat(ABC):
    """One example per trace, of what to do."""

    @property
    def signs(self) -> frozenset[int]:
        """What to do."""
        return frozenset({1})

    @property
    def grouping(self) -> Grouping:
        """No groups."""
        return "none"

    @abstractmethod
    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """The example of one trace, or why there is none."""

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """Each trace by itself."""
        return [self.of_trace(prompt, candidate.trace) for candidate in candidates]
