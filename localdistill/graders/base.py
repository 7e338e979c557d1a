"""The contract of graders: verdicts on single traces, as facts, with their reason and what was extracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from localdistill.core.facts import FactMaker, SaysFacts
from localdistill.core.records import FactKind
from localdistill.core.samples import GraderSample


class Grader(FactMaker, Protocol):
    """Judges a trace's answer against its prompt: the value is a score from 0 to 1, and `passed` the verdict; both are
    None where it could not decide. An answer that cannot be read is wrong, with a reason."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""


class JudgesTraces(SaysFacts):
    """What graders have in common."""

    kind: ClassVar[FactKind] = "grade"
