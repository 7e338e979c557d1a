"""Measures how much a trace says again: a string of tokens that comes back too often, n-grams that repeat, an end that
goes round in circles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures
from localdistill.texts.loops import is_looping
from localdistill.texts.repeats import most_repeats, repeated_share, tokens_of


class RepetitionLabel(Measures):
    """The `repetition` label, of reasoning and answer together: how often the string that comes most often is there.
    More than 20 times a string of 20 tokens is the usual border (arXiv 2504.17565)."""

    name = "repetition"
    version = 1
    metrics: ClassVar[Mapping[str, str]] = {
        "share": "Share of the n-grams that were there before, 0 to 1.",
        "loop": "1 when the reasoning or the answer ends in one block of tokens again and again, over at least 160.",
    }

    class Options(BaseOptions):
        """Options of `repetition`."""

        tokens: int = Field(default=20, ge=2, le=1000)
        """Length of the strings that are counted, in words and marks."""
        ngram: int = Field(default=4, ge=1, le=100)
        """Length of the n-grams whose share is measured, in words and marks."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and how much of them is said again."""
        prompt, small = asks("1 + 1?"), {"tokens": 2, "ngram": 1}
        return (
            LabelSample(prompt, answers(prompt, "2", "So one. So one."), 2.0, {"share": 1 - 4 / 7, "loop": 0.0},
                        options=small),
            LabelSample(prompt, answers(prompt, "2 " * 200), 181.0, {"share": 1 - 1 / 197, "loop": 1.0}),
            LabelSample(prompt, answers(prompt, ""), 0.0, {"share": 0.0, "loop": 0.0}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        for _, trace in pairs:
            thought, said = tokens_of(trace.reasoning), tokens_of(trace.answer)
            both = [*thought, *said]
            yield Fact(trace.id, self.name, self.version, kind=self.kind,
                       value=float(most_repeats(both, self.options.tokens)),
                       metrics={"share": repeated_share(both, self.options.ngram),
                                "loop": float(is_looping(thought) or is_looping(said))})
