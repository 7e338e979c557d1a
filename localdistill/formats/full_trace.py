"""The whole trace, reasoning inside think tags and then the answer: the student learns to think. The paper has no such
variant; it is the control that shows what the other layouts give up."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from localdistill.core.records import Example, Prompt, Skip, Span, TokenCounter, Trace
from localdistill.formats.spans import TextOptions, clean_answer, example, skip, why_no_reasoning
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END


class FullTraceFormat:
    """Trains on `<think>`, reasoning, `</think>`, blank line, answer."""

    name: ClassVar[str] = "full_trace"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = True
    one_per_prompt: ClassVar[bool] = False

    class Options(TextOptions):
        """How much the parts count."""

        reasoning_weight: float = Field(1.0, ge=0.0, le=1.0)
        """Weight of the reasoning's tokens in the loss; tags and answer always count fully."""
        allow_summaries: bool = False
        """Train also on summaries that a provider gave out in place of the reasoning. The student then learns to write
        such summaries, not to reason as the teacher did. Summaries made by a rewrite are always used."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def lay_out(self, prompt: Prompt, trace: Trace, count: TokenCounter) -> Example | Skip:
        """The trace as a thinking reply, or why it cannot be."""
        reason = why_no_reasoning(prompt, trace, self.options.allow_summaries, self.options.text_marks)
        if reason:
            return skip(prompt, trace, reason)
        spans = (
            Span(THOUGHT_BEGIN, 1.0, "tag"),
            Span(trace.reasoning.strip(), self.options.reasoning_weight, "reasoning"),
            Span(THOUGHT_END, 1.0, "tag"),
            Span(clean_answer(trace.answer)),
        )
        return example(prompt, trace, spans, self.thinks)
