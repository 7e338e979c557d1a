"""What a person says of a trace, kept as one fact: a verdict, a note, tags, and whether it is a favourite. It can be
taken back as a whole, since the fact that stood there before says all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from localdistill.core.errors import UsageError
from localdistill.core.records import PERSON, Fact

FAVOURITE = "favourite"
"""The metric that says it is one."""
TAG = "tag:"
"""What the name of a metric begins with that is a tag."""
LONGEST_TAG = 60


@dataclass(frozen=True)
class Judgement:
    """All that a person says of one trace."""

    passed: bool | None = None
    """Right or wrong; None where the person did not say."""
    note: str = ""
    favourite: bool = False
    tags: tuple[str, ...] = ()
    """Sorted, each once."""

    @classmethod
    def of(cls, fact: Fact | None) -> Judgement:
        """What a person's fact says; None is nothing."""
        if fact is None:
            return cls()
        tags = sorted(name.removeprefix(TAG) for name, there in fact.metrics.items() if name.startswith(TAG) and there)
        return cls(fact.passed, fact.reason, bool(fact.metrics.get(FAVOURITE)), tuple(tags))

    def fact(self, trace_id: str) -> Fact:
        """The fact that says it."""
        by, version, variant = PERSON
        value = None if self.passed is None else float(self.passed)
        metrics = {FAVOURITE: 1.0} if self.favourite else {}
        return Fact(trace_id, by, version, variant, "judgement", value, self.passed,
                    {**metrics, **{f"{TAG}{tag}": 1.0 for tag in self.tags}}, self.note)

    @property
    def text(self) -> str:
        """In one line, for people; empty where nothing is said."""
        verdict = {True: ["right"], False: ["wrong"], None: []}[self.passed]
        said = ", ".join([*verdict, *([FAVOURITE] if self.favourite else []), *(f"#{tag}" for tag in self.tags)])
        return ": ".join(filter(None, (said, self.note)))


def judgement_among(facts: Iterable[Fact]) -> Judgement:
    """What a person says, among all that is said of a trace."""
    return Judgement.of(next((fact for fact in facts if fact.kind == "judgement"), None))


def checked_tag(tag: str) -> str:
    """A tag without the `#` before it. UsageError for what is not one word."""
    name = tag.strip().removeprefix("#")
    if not re.fullmatch(r"[\w.:/+@-]+", name) or len(name) > LONGEST_TAG:
        raise UsageError(f"'{tag}' is no tag" if name else "a tag is empty",
                         f"one word of letters, digits and . : / + @ - _, at most {LONGEST_TAG} characters")
    return name
