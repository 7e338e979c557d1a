"""The contract of rewrites: a trace becomes a new trace with a parent, judged by the rewrite itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import RewriteSample
from localdistill.rewrites.naming import Maker


class Rewrite(Maker, Protocol):
    """Turns traces into new ones. Built as `Member(options)`; what it asks engines for, its options of the type
    `EngineName` say."""

    Options: ClassVar[type[BaseOptions]]
    needs: ClassVar[frozenset[Need]]

    @classmethod
    def samples(cls) -> Sequence[RewriteSample]:
        """Traces and the reasoning that must stand in its place."""

    def rewrite(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[tuple[Trace, Fact]]:
        """For each pair the new trace (as `result.rewritten` makes it) and this rewrite's own verdict on it: passed, or
        rejected with the reason. A rejected one is stored and counted too. What an engine gave no reply to has none."""
