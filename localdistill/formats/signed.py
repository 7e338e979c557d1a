"""All right and wrong answers to a prompt side by side, the wrong ones marked as such, for objectives that learn from
both without pairing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from localdistill.core.losses import Grouping
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter, content_id
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.judged import AnswerOptions, JudgedFormat


class SignedFormat(JudgedFormat):
    """Right and wrong answers, as many as there are."""

    name: ClassVar[str] = "signed"
    version: ClassVar[int] = 1

    class Options(AnswerOptions):
        """Which answers take part."""

        most: int = Field(0, ge=0, le=256)
        """Most right and most wrong answers of one prompt, as they stand in the set; 0 takes all."""
        right_alone: bool = False
        """Take right answers too whose prompt has no wrong one, each by itself: they are learned as ever."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        told = [(False, "It is 5.", "a"), (True, "It is 4.", "b"), (True, "Four.", "c")]
        five, four, word = (Candidate(answers(prompt, text, id=name), passed) for passed, text, name in told)
        made = [LaidText(["It is 4."], group=1), LaidText(["Four."], group=1), LaidText(["It is 5."], sign=-1, group=1)]
        return (
            FormatSample(prompt, [five, four, word], made),
            FormatSample(prompt, [five, four, word], [made[0], made[2]], skipped=["enough answers"],
                         options={"most": 1}),
            FormatSample(prompt, [four], refused="no wrong answer"),
            FormatSample(prompt, [five], options={"right_alone": True}, refused="no right answer"),
            FormatSample(prompt, [four, word], [LaidText(["It is 4."]), LaidText(["Four."])],
                         options={"right_alone": True}),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    @property
    def grouping(self) -> Grouping:
        """Both sides, unless right answers may stand alone."""
        return "none" if self.options.right_alone else "group"

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """The answers of both sides as one group, and why a trace is not in it."""
        sides, most = self.sides(prompt, candidates, count), self.options.most or None
        right, wrong = sides.right[:most], sides.wrong[:most]
        left = [*sides.right[len(right):], *sides.wrong[len(wrong):]]
        if reason := sides.one_sided():
            alone = right if self.options.right_alone else []
            sides.leave(prompt, [*right[len(alone):], *wrong], reason)
            right, wrong, group = alone, [], ""
        else:
            group = content_id("group", prompt.id, *(one.trace_id for one in (*right, *wrong)))
        sides.leave(prompt, left, "enough answers of its side are there")
        return [*(replace(one, group=group) for one in (*right, *wrong)), *sides.skips]
