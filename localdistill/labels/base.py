"""The contract of labels: what is measured of traces and prompts, as facts without a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from localdistill.core.facts import FactMaker, SaysFacts
from localdistill.core.records import FactKind, Prompt, Trace
from localdistill.core.samples import LabelSample


class Label(FactMaker, Protocol):
    """Measures a trace, or the prompt behind it: the value is a number or a few words, None where it has none."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and what is measured of them."""


class Measures(SaysFacts):
    """What labels have in common."""

    kind: ClassVar[FactKind] = "label"

    def applies(self, prompt: Prompt) -> bool:
        """Always."""
        return True


def each_once(pairs: Iterable[tuple[Prompt, Trace]]) -> Iterator[Prompt]:
    """The prompt of every trace, once, in the order in which they come first."""
    seen: set[str] = set()
    for prompt, _ in pairs:
        if prompt.id not in seen:
            seen.add(prompt.id)
            yield prompt
