"""Reasoning as plain text, then the answer (the paper's method 3, when the reasoning is a summary): the student writes
its steps openly and does not think in tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.records import Candidate, Example, Prompt, Skip, Span, Trace
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.singly import SinglyFormat
from localdistill.formats.spans import TurnOptions, answer_spans, example, skip, why_no_reasoning


class ReasoningThenAnswerFormat(SinglyFormat):
    """Trains on reasoning, separator and answer."""

    name: ClassVar[str] = "reasoning_then_answer"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = False

    class Options(TurnOptions):
        """How the two parts are joined and weighed."""

        separator: str = Field("\n\n", min_length=1)
        """Text between reasoning and answer. The paper does not state its own; a blank line is the default."""
        reasoning_weight: float = Field(1.0, ge=0.0, le=1.0)
        """Weight of the reasoning's tokens in the loss; 0 trains on the answer alone, with the reasoning as context."""
        allow_summaries: bool = False
        """Train also on summaries that a provider gave out in place of the reasoning. The student then learns to write
        such summaries, not to reason as the teacher did. Summaries made by a rewrite are always used."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        trace = Candidate(answers(prompt, "It is 4.", " Two and two. "))
        texts = ["Two and two.", "\n\n", "It is 4."]
        return (
            FormatSample(prompt, [trace], [LaidText(texts)]),
            FormatSample(prompt, [trace], [LaidText(texts, ["It is 4."])], options={"reasoning_weight": 0.0}),
            FormatSample(prompt, [Candidate(answers(prompt, "It is 4."))], refused="there is no reasoning"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options
        self.every_turn = options.every_turn

    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """Reasoning and answer as one reply, or why it cannot be."""
        reason = why_no_reasoning(prompt, trace, self.options.allow_summaries, self.options.text_marks)
        if reason:
            return skip(prompt, trace, reason)
        weight = self.options.reasoning_weight
        spans = (
            Span(trace.reasoning.strip(), weight, "reasoning"),
            Span(self.options.separator if trace.answer.strip() else "", weight, "reasoning"),
            *answer_spans(trace),
        )
        return example(prompt, trace, spans, self.thinks)
