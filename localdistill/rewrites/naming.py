"""How what a rewrite makes is called: the one place that makes these names and ids, and takes a name apart."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

from localdistill.core.options import Options
from localdistill.core.records import Fact, Trace, content_id


@dataclasses.dataclass(frozen=True)
class RewriteName:
    """How what a rewrite made is called, as `Trace.rewrite` holds it: `summarize@1`, or `summarize@1/3f9a01bc` where an
    engine wrote."""

    use: str
    """The member."""
    version: int
    writer: str = ""
    """Which engine wrote, in short."""

    @classmethod
    def parse(cls, text: str) -> RewriteName:
        """What `str` made of one; one without a version for a text that is none."""
        member, _, writer = text.partition("/")
        use, _, version = member.rpartition("@")
        return cls(use, int(version), writer) if version.isdecimal() and use else cls(text, 0)

    def __str__(self) -> str:
        name = f"{self.use}@{self.version}"
        return f"{name}/{self.writer}" if self.writer else name

    def of(self, trace: Trace, fact: Fact) -> tuple[Trace, Fact]:
        """What the member made and its verdict, under this name and an id that says who wrote it."""
        own = content_id("rewritten", trace.parent_id, str(self), trace.id)
        return (dataclasses.replace(trace, rewrite=str(self), id=own),
                dataclasses.replace(fact, subject_id=own, variant=self.writer))


class Maker(Protocol):
    """What of a rewrite is part of the identity of what it makes."""

    name: ClassVar[str]
    version: ClassVar[int]
    wording: ClassVar[int]
    """Version of the words or rules by which it works."""

    @property
    def options(self) -> Options:
        """What it was built with."""


def child_of(parent: Trace, by: Maker) -> Trace:
    """`parent` with the name and the id of what `by` makes of it, whoever writes."""
    name = str(RewriteName(by.name, by.version))
    engines = set(by.options.engine_fields())
    said = by.options.model_dump(mode="json", exclude=engines, exclude_defaults=True)
    own = content_id("rewritten", parent.id, name, said, by.wording)
    return dataclasses.replace(parent, id=own, parent_id=parent.id, rewrite=name)
