"""The response that the community data set held (the paper's R_orig): the baseline that a teacher has to beat.

One response per prompt, however many traces the prompt has: with three teachers the other formats train on up to three
answers to a prompt, this one on its one response, once per epoch. Arms still share their prompts, not their number of
rows and steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from localdistill.core.records import Example, Prompt, Skip, Span, TokenCounter, Trace
from localdistill.core.samples import FormatSample, answers, asks
from localdistill.formats.spans import TextOptions, example, skip, why_marked, why_no_prompt

_CALCULATOR_MARK = re.compile(r"<<[\d\s.,+\-*/()%$]*=[\d\s.,+\-*/()%$=]*>>")


class OriginalFormat:
    """Trains on `prompt.original`, once per prompt; traces only say which prompts take part."""

    name: ClassVar[str] = "original"
    version: ClassVar[int] = 1
    thinks: ClassVar[bool] = False
    one_per_prompt: ClassVar[bool] = True

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
            FormatSample(prompt, answers(prompt, "Four."), ["It is 4."], ["It is 4."]),
            FormatSample(bare, answers(bare, "Four."), refused="there is no original response"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def lay_out(self, prompt: Prompt, trace: Trace, count: TokenCounter) -> Example | Skip:
        """The original response as the only trained text, or why there is none."""
        text = (prompt.original or "").strip()
        if self.options.drop_calculator_marks:
            text = _CALCULATOR_MARK.sub("", text)
        reason = (why_no_prompt(prompt) or (None if text else "there is no original response")
                  or why_marked("the original response", text, self.options.text_marks))
        return skip(prompt, trace, reason) if reason else example(prompt, trace, (Span(text),), self.thinks)
