"""Counts the student's tokens of a question, its reasoning and its answer: what a row will cost, and what the race and
its filters compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.errors import UsageError
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures


class TokensLabel(Measures):
    """The `tokens` label: reasoning and answer together, and each part as a metric."""

    name = "tokens"
    version = 1
    needs: ClassVar[frozenset[Need]] = frozenset({"tokens"})
    metrics: ClassVar[Mapping[str, str]] = {
        "question": "Tokens of the last user turn.",
        "reasoning": "Tokens of the reasoning.",
        "answer": "Tokens of the answer.",
    }

    class Options(BaseOptions):
        """There is nothing to set: the student's tokenizer counts."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and what is measured of them; every character counts as a token."""
        prompt = asks("1 + 1?")
        return (
            LabelSample(prompt, answers(prompt, "It is 2.", "Easy."), 13.0, {"question": 6, "reasoning": 5,
                                                                             "answer": 8}),
            LabelSample(prompt, answers(prompt, ""), 0.0, {"question": 6, "reasoning": 0, "answer": 0}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. UsageError without a tokenizer."""
        count = means.count
        if count is None:
            raise UsageError("the label 'tokens' counts the student's tokens, and this recipe has no [student]",
                             'add one, for example model = "shipped:pantry/student"')
        for prompt, trace in pairs:
            parts = {"question": prompt.question, "reasoning": trace.reasoning, "answer": trace.answer}
            counts = {name: float(count(text)) if text else 0.0 for name, text in parts.items()}
            yield Fact(trace.id, self.name, self.version, kind=self.kind,
                       value=counts["reasoning"] + counts["answer"], metrics=counts)
