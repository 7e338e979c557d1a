"""The whole trace, reasoning inside think tags and then the answer: the student learns to think. The paper has no such
variant; it is the control that shows what the other layouts give up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.records import Candidate, Example, Prompt, Skip, Span, Trace
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.singly import SinglyFormat
from localdistill.formats.spans import TurnOptions, answer_spans, example, skip, why_no_reasoning
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END


class FullTraceFormat(SinglyFormat):
    """Trains on `<think>`, reasoning, `</think>`, blank line, answer."""

    name: ClassVar[str] = "full_trace"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = True

    class Options(TurnOptions):
        """How much the parts count."""

        reasoning_weight: float = Field(1.0, ge=0.0, le=1.0)
        """Weight of the reasoning's tokens in the loss; tags and answer always count fully."""
        allow_summaries: bool = False
        """Train also on summaries that a provider gave out in place of the reasoning. The student then learns to write
        such summaries, not to reason as the teacher did. Summaries made by a rewrite are always used."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        trace = Candidate(answers(prompt, "It is 4.", " Two and two. "))
        texts = ["<think>\n", "Two and two.", "\n</think>\n\n", "It is 4."]
        return (
            FormatSample(prompt, [trace], [LaidText(texts)]),
            FormatSample(prompt, [trace], [LaidText(texts, [texts[0], *texts[2:]])], options={"reasoning_weight": 0.0}),
            FormatSample(prompt, [Candidate(answers(prompt, "It is 4."))], refused="there is no reasoning"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options
        self.every_turn = options.every_turn

    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """The trace as a thinking reply, or why it cannot be."""
        reason = why_no_reasoning(prompt, trace, self.options.allow_summaries, self.options.text_marks)
        if reason:
            return skip(prompt, trace, reason)
        spans = (
            Span(THOUGHT_BEGIN, 1.0, "tag"),
            Span(trace.reasoning.strip(), self.options.reasoning_weight, "reasoning"),
            Span(THOUGHT_END, 1.0, "tag"),
            *answer_spans(trace),
        )
        return example(prompt, trace, spans, self.thinks)
