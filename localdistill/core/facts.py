"""The one contract of what says something of traces and prompts: graders and labels, and the stage that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Literal, Protocol

from localdistill.core.means import Means, Need
from localdistill.core.options import Options
from localdistill.core.records import Fact, FactKind, Prompt, Trace

About = Literal["trace", "prompt"]


class FactMaker(Protocol):
    """Says facts of traces or prompts. Built as `Member(options)`; `close` ends child processes."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    version: ClassVar[int]
    """Raised when a fact could change: the new version's facts then count in place of the old ones."""
    kind: ClassVar[FactKind]
    about: ClassVar[About]
    """Whose facts they are. One of prompts is handed every trace of the prompt, and says one fact of it."""
    says: ClassVar[Literal["number", "text"]]
    """What its values are."""
    metrics: ClassVar[Mapping[str, str]]
    """Name of each metric and what it means, with its unit; columns are called `<member>_<metric>`."""
    needs: ClassVar[frozenset[Need]]
    """Where `verdicts` or `others` are among them, facts are made anew whenever the stage runs: what they follow from
    may have changed."""

    def applies(self, prompt: Prompt) -> bool:
        """Whether there is something to say of this prompt or its traces; others are left to other members."""

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """The facts of the traces, or prompts, of `pairs`, in any order. `pairs` is pulled lazily, holds only what
        applies and never waits for what is yielded. Whose fact it is in which variant is filled in by the stage. Never
        raises for text of a model, however odd: what cannot be read is a fact with a reason. What an engine gave no
        reply to has no fact."""

    def check(self) -> None:
        """LocalDistillError for what stands in the way on this machine, before anything is asked of anybody."""

    def close(self) -> None:
        """Free child processes. Harmless to call twice."""


MADE_ANEW: frozenset[Need] = frozenset({"verdicts", "others"})
"""Whoever needs one of these says everything again."""


class SaysFacts:
    """What most members that say facts have in common: they speak of traces, need nothing, work
    anywhere and have nothing to free."""

    about: ClassVar[About] = "trace"
    says: ClassVar[Literal["number", "text"]] = "number"
    metrics: ClassVar[Mapping[str, str]] = {}
    needs: ClassVar[frozenset[Need]] = frozenset()

    def check(self) -> None:
        """Nothing stands in the way."""

    def close(self) -> None:
        """Nothing to free."""
