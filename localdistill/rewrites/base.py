"""The contract of rewrites: a trace becomes a new trace with a parent, graded by the rewrite itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Grade, Message, Prompt, Reply, Trace
from localdistill.core.samples import RewriteSample
from localdistill.rewrites.naming import Maker

Ask = Callable[[Iterable[tuple[str, tuple[Message, ...]]]], Iterator[tuple[str, Reply]]]
"""Asks the rewrite's engine: (key, messages) in, (key, reply) out in any order. Stored replies are not asked again."""


class Rewrite(Maker, Protocol):
    """Turns traces into new ones. Built as `Member(options)`."""

    Options: ClassVar[type[BaseOptions]]
    needs_engine: ClassVar[bool]

    @classmethod
    def samples(cls) -> Sequence[RewriteSample]:
        """Traces and the reasoning that must stand in its place."""

    def rewrite(self, pairs: Iterable[tuple[Prompt, Trace]], ask: Ask | None) -> Iterator[tuple[Trace, Grade]]:
        """For each pair the new trace (as `result.rewritten` makes it) and this rewrite's own verdict on it: score 1
        kept, 0 rejected, with the reason. A rejected one is stored and counted too."""
