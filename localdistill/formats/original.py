"""The response that the community data set held (the paper's R_orig): the baseline that a teacher has to beat.

One response per prompt, however many traces the prompt has: with three teachers the other formats train on up to three
answers to a prompt, this one on its one response, once per epoch. Arms still share their prompts, not their number of
rows and steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from localdistill.core.records import Candidate, Example, Prompt, Skip, Span, TokenCounter, Trace
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.singly import SinglyFormat
from localdistill.formats.spans import TextOptions, example, skip, why_marked, why_no_prompt

AGAIN = "its prompt's one example is there already"
_CALCULATOR_MARK = re.compile(r"<<[\d\s.,+\-*/()%$]*=[\d\s.,+\-*/()%$=]*>>")


class OriginalFormat(SinglyFormat):
    """Trains on `prompt.original`, once per prompt; traces only say which prompts take part."""

    name: ClassVar[str] = "original"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = False

    class Options(TextOptions):
        """How the original response is taken over."""

        drop_calculator_marks: bool = True
        """Remove GSM8K's `<<48/2=24>>` marks, which only make sense with a calculator in the loop."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?", original="It is <<2+2=4>>4.")
        bare = asks("What is 2 + 2?")
        return (
            FormatSample(prompt, [Candidate(answers(prompt, "Four."))], [LaidText(["It is 4."])]),
            FormatSample(prompt, [Candidate(answers(prompt, text, id=text)) for text in ("Four.", "Five.")],
                         [LaidText(["It is 4."])], skipped=[AGAIN]),
            FormatSample(bare, [Candidate(answers(bare, "Four."))], refused="there is no original response"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """The original response as the only trained text, or why there is none."""
        text = (prompt.original or "").strip()
        if self.options.drop_calculator_marks:
            text = _CALCULATOR_MARK.sub("", text)
        reason = (why_no_prompt(prompt) or (None if text else "there is no original response")
                  or why_marked("the original response", text, self.options.text_marks))
        return skip(prompt, trace, reason) if reason else example(prompt, trace, (Span(text),), self.thinks)

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """The first trace's example stands for all: they would all be the same."""
        first = self.of_trace(prompt, candidates[0].trace)
        again = AGAIN if isinstance(first, Example) else first.reason
        return [first, *(skip(prompt, candidate.trace, again) for candidate in candidates[1:])]
