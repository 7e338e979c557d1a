"""Pairs of the shortest and the longest right answer to one prompt: an example of a format that makes pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from localdistill.core.losses import Grouping
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.judged import AnswerOptions, JudgedFormat


class BriefestFormat(JudgedFormat):
    """Short answers are preferred to long ones."""

    name: ClassVar[str] = "briefest"
    version: ClassVar[int] = 1

    class Options(AnswerOptions):
        """How each answer is laid out."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the pair that they must become."""
        prompt = asks("What is 2 + 2?")
        told = [(True, "4", "a"), (True, "It is 4, I think.", "b"), (False, "5", "c"), (True, "It is 4.", "d")]
        brief, long, wrong, other = (Candidate(answers(prompt, text, id=name), passed) for passed, text, name in told)
        pair = [LaidText(["4"], group=1), LaidText(["It is 4, I think."], sign=-1, group=1)]
        return (
            FormatSample(prompt, [long, brief], pair),
            FormatSample(prompt, [other, long, wrong, brief], pair, skipped=["neither", "neither"]),
            FormatSample(prompt, [brief, wrong], refused="one right answer"),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    @property
    def grouping(self) -> Grouping:
        """One preferred, one not."""
        return "pair"

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """The pair, and the answers in between."""
        sides = self.sides(prompt, candidates, count)
        ordered = sorted(sides.right, key=lambda one: count(one.turns[-1].text))
        if len(ordered) < 2:
            sides.leave(prompt, [*ordered, *sides.wrong], "its prompt has at most one right answer")
            return sides.skips
        first, *between, last = ordered
        left = {one.trace_id for one in (*between, *sides.wrong)}
        kept = [one for one in (*sides.right, *sides.wrong) if one.trace_id in left]
        sides.leave(prompt, kept, "it is neither the shortest nor the longest right one")
        group = f"{first.trace_id} {last.trace_id}"
        return [replace(first, group=group), replace(last, group=group, sign=-1), *sides.skips]
