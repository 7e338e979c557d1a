"""The answer without the reasoning behind it (the paper's method 2): the student learns to answer directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from localdistill.core.records import Candidate, Example, Prompt, Skip, Trace
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.singly import SinglyFormat
from localdistill.formats.spans import TurnOptions, answer_spans, example, skip, why_no_answer


class AnswerOnlyFormat(SinglyFormat):
    """Trains on `trace.answer`."""

    name: ClassVar[str] = "answer_only"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = False

    class Options(TurnOptions):
        """What is trained on."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        told = Candidate(answers(prompt, " It is 4. ", "Two and two."))
        cut = Candidate(answers(prompt, "It is", status="length", id="cut"))
        return (
            FormatSample(prompt, [told], [LaidText(["It is 4."])]),
            FormatSample(prompt, [told, cut], [LaidText(["It is 4."])], skipped=["the reply is length"]),
            FormatSample(prompt, [Candidate(answers(prompt, " ", "Two and two."))], refused="the answer is empty"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options
        self.every_turn = options.every_turn

    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """The answer as the only trained text, or why it cannot be."""
        reason = why_no_answer(prompt, trace, self.options.text_marks)
        if reason:
            return skip(prompt, trace, reason)
        return example(prompt, trace, answer_spans(trace), self.thinks)
