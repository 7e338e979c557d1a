"""Counts how a trace hesitates: words with which reasoning models stop, doubt, check and start again. Formats and
teachers differ in them more than in anything else, and students copy them first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures
from localdistill.texts.repeats import tokens_of

_KINDS: Mapping[str, re.Pattern[str]] = {name: re.compile(words, re.IGNORECASE) for name, words in {
    "pause": r"\b(?:wait|hmm+|hold on|hang on|let me (?:think|see)|one moment)\b|等等|等一下|嗯",
    "doubt": r"\b(?:not sure|maybe|perhaps|i think|it seems|confus\w+|am i right|that doesn't seem|no,)(?:\b|(?<=,))"
             r"|不确定|也许|可能不对|不对",
    "check": r"\b(?:double[- ]check|let me (?:check|verify|confirm|recheck)|let's (?:check|verify|confirm)|to verify"
             r"|checking)\b|检查一下|验证一下|再检查",
    "turn": r"\b(?:alternatively|on second thought|actually|another (?:way|approach)|instead|start over|go back)\b"
            r"|换一种|另一种方法|重新",
}.items()}


class StyleLabel(Measures):
    """The `style` label: hesitations in the reasoning, or in the answer of a trace without any."""

    name = "style"
    version = 1
    metrics: ClassVar[Mapping[str, str]] = {
        "pause": "Words that stop: wait, hmm, hold on.",
        "doubt": "Words that doubt: maybe, not sure.",
        "check": "Words that check: let me verify.",
        "turn": "Words that start on another way: alternatively, actually.",
        "per_1000": "All of them for each 1,000 words and marks.",
    }

    class Options(BaseOptions):
        """There is nothing to set: the words are English and Chinese ones."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and how they hesitate."""
        prompt = asks("1 + 1?")
        none = {"pause": 0.0, "doubt": 0.0, "check": 0.0, "turn": 0.0, "per_1000": 0.0}
        return (
            LabelSample(prompt, answers(prompt, "Wait.", "Wait, maybe 3. Hmm. Actually, let me verify: 2."), 5.0,
                        {"pause": 2.0, "doubt": 1.0, "check": 1.0, "turn": 1.0, "per_1000": 5000 / 15}),
            LabelSample(prompt, answers(prompt, "It is 2."), 0.0, none),
            LabelSample(prompt, answers(prompt, ""), 0.0, none),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        for _, trace in pairs:
            text = trace.reasoning or trace.answer
            counts = {name: float(sum(1 for _ in words.finditer(text))) for name, words in _KINDS.items()}
            total, length = sum(counts.values()), len(tokens_of(text))
            yield Fact(trace.id, self.name, self.version, kind=self.kind, value=total,
                       metrics={**counts, "per_1000": 1000 * total / length if length else 0.0})
