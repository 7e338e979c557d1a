"""Pairs of a right and a wrong answer to one prompt, for objectives that compare: the student learns what makes the
difference. A prompt that has one side only can say nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import ClassVar, Literal

from pydantic import Field

from localdistill.core.losses import Grouping
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter, content_id
from localdistill.core.samples import FormatSample, LaidText, answers, asks
from localdistill.formats.judged import UNJUDGED, AnswerOptions, JudgedFormat

Order = Literal["first", "shortest", "longest"]


class PreferenceFormat(JudgedFormat):
    """Right and wrong answers, two by two."""

    name: ClassVar[str] = "preference"
    version: ClassVar[int] = 1

    class Options(AnswerOptions):
        """Which answers make pairs."""

        pairs: int = Field(1, ge=0, le=256)
        """Most pairs of one prompt; 0 makes every pair that there is. Together they count as much as one."""
        right: Order = "first"
        """Which right answers come first: as they stand in the set, or by the student's tokens."""
        wrong: Order = "first"
        """Which wrong answers come first."""

    @classmethod
    def samples(cls) -> Sequence[FormatSample]:
        """Traces and the texts that they must become."""
        prompt = asks("What is 2 + 2?")
        told = [(True, "It is 4.", "a"), (False, "It is 5, I think.", "b"), (False, "It is 3.", "c")]
        four, five, three = (Candidate(answers(prompt, text, id=name), passed) for passed, text, name in told)
        pair = [LaidText(["It is 4."], group=1), LaidText(["It is 5, I think."], sign=-1, group=1)]
        other = [LaidText(["It is 4."], group=2), LaidText(["It is 3."], sign=-1, group=2)]
        enough = "enough pairs of its prompt"
        return (
            FormatSample(prompt, [four, five, three], pair, skipped=[enough]),
            FormatSample(prompt, [four, five, three], [other[0], other[1]], skipped=[enough],
                         options={"wrong": "shortest"}),
            FormatSample(prompt, [four, five, three], [*pair, *other], options={"pairs": 0}),
            FormatSample(prompt, [four, replace(five, passed=None)], refused=UNJUDGED),
            FormatSample(prompt, [four], refused="no wrong answer"),
            FormatSample(prompt, [five, three], refused="no right answer"),
            FormatSample(prompt, [four, five], options={"of": "full_trace"}, refused="there is no reasoning"),
            FormatSample(prompt, [four, five], options={"of": "preference"}, refused="makes groups itself"),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options

    @property
    def grouping(self) -> Grouping:
        """One right, one wrong."""
        return "pair"

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """The pairs, and why a trace is in none."""
        sides = self.sides(prompt, candidates, count)
        if reason := sides.one_sided():
            sides.leave(prompt, [*sides.right, *sides.wrong], reason)
            return sides.skips
        right = _ordered(sides.right, self.options.right, count)
        wrong = _ordered(sides.wrong, self.options.wrong, count)
        # Pairs of answers that are in no pair yet come first.
        places = sorted(product(range(len(right)), range(len(wrong))), key=lambda at: (at[0] != at[1], sum(at), at))
        pairs = [(right[r], wrong[w]) for r, w in places[:self.options.pairs or None]]
        used = {example.trace_id for pair in pairs for example in pair}
        sides.leave(prompt, [one for one in (*right, *wrong) if one.trace_id not in used],
                    "enough pairs of its prompt are there")
        return [*(replace(example, group=_name(pair)) for pair in pairs for example in pair), *sides.skips]


def _ordered(examples: Sequence[Example], order: Order, count: TokenCounter) -> list[Example]:
    if order == "first":
        return list(examples)
    return sorted(examples, key=lambda one: count(one.turns[-1].text), reverse=order == "longest")


def _name(pair: tuple[Example, Example]) -> str:
    return content_id("pair", pair[0].prompt_id, pair[0].trace_id, pair[1].trace_id)
