"""The contract of graders: verdicts on single traces, as facts, with their reason and what was extracted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from localdistill.core.facts import FactMaker, SaysFacts
from localdistill.core.records import Fact, FactKind, Trace
from localdistill.core.samples import GraderSample

SHOWN_CHARS = 200
"""Of what was taken for the answer, that are kept."""


class Grader(FactMaker, Protocol):
    """Judges a trace's answer against its prompt: the value is a score from 0 to 1, and `passed` the verdict; both are
    None where it could not decide. An answer that cannot be read is wrong, with a reason."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""


class JudgesTraces(SaysFacts):
    """What graders have in common."""

    kind: ClassVar[FactKind] = "grade"

    name: ClassVar[str]
    version: ClassVar[int]

    def verdict(self, trace: Trace, score: float | None, reason: str, extracted: str = "",
                metrics: Mapping[str, float] | None = None) -> Fact:
        """What this grader says of `trace`: 1 is right, None is undecided; a status that is not usual stands behind the
        reason."""
        note = "" if trace.status in ("complete", "length") else f" (status {trace.status})"
        return Fact(trace.id, self.name, self.version, value=score, passed=None if score is None else score >= 1,
                    reason=reason + note, extracted=extracted[:SHOWN_CHARS], metrics=metrics or {})
