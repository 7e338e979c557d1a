"""The answer without the reasoning behind it (the paper's method 2): the student learns to answer directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from localdistill.core.records import Example, Prompt, Skip, Span, TokenCounter, Trace
from localdistill.core.samples import FormatSample, answers, asks
from localdistill.formats.spans import TextOptions, clean_answer, example, skip, why_no_answer


class AnswerOnlyFormat:
    """Trains on `trace.answer`."""

    name: ClassVar[str] = "answer_only"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = False
    one_per_prompt: ClassVar[bool] = False

    class Options(TextOptions):
        """What is trained on."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        return (
            FormatSample(prompt, answers(prompt, " It is 4. ", "Two and two."), ["It is 4."], ["It is 4."]),
            FormatSample(prompt, answers(prompt, " ", "Two and two."), refused="the answer is empty"),
            FormatSample(prompt, answers(prompt, "It is", status="length"), refused="the reply is length"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def lay_out(self, prompt: Prompt, trace: Trace, count: TokenCounter) -> Example | Skip:
        """The answer as the only trained text, or why it cannot be."""
        reason = why_no_answer(prompt, trace, self.options.text_marks)
        if reason:
            return skip(prompt, trace, reason)
        return example(prompt, trace, (Span(clean_answer(trace.answer)),), self.thinks)
