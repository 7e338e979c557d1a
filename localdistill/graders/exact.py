"""Grades by equality: for answers that are one number or a few words. No process, no algebra.

The result is taken from the last `\\boxed{...}`, else the last line `#### N`, else what follows the last
"answer is" or "Answer:", else the last number of the answer, else the whole answer. A number inside an expression
(`4x`, `4!`) is none. Numbers are equal as numbers (`1,200.0` is `1200`), texts are equal apart from case, spaces and
closing punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces
from localdistill.graders.choosing import as_asked, choose, last_number
from localdistill.graders.extraction import stated_result
from localdistill.graders.numbers import only_number
from localdistill.graders.readable import readable, tail_of
from localdistill.graders.rules import RuleName


class ExactGrader(JudgesTraces):
    """The `exact` grader."""

    name = "exact"
    version = 3

    class Options(BaseOptions):
        """Options of `exact`."""

        after: str = ""
        """Words behind whose last place the result stands, to the end and without a last full stop, compared as text;
        an answer without them is wrong. Empty finds the result by rule. BIG-Bench Hard's are "So the answer is"."""

        ignore_case: bool = True
        """Whether `Yes` equals `yes`."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        prompt, word, constrained = asks("How many?", "42"), asks("Who?", "Eve"), asks(
            "Say 42.", "42", metadata={"constraints": [{"kind": "contains", "value": "42"}]})
        return (
            GraderSample(prompt, answers(prompt, "The answer is 42.0."), 1.0),
            GraderSample(prompt, answers(prompt, "The answer is 41, not 42."), 0.0),
            GraderSample(word, answers(word, "eve."), 1.0),
            GraderSample(word, answers(word, "eve."), 0.0, options={"ignore_case": False}),
            GraderSample(word, answers(word, "I say Eve. So the answer is Adam."), 0.0,
                         options={"after": "the answer is"}),
            GraderSample(constrained, answers(constrained, "42"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """True for a prompt with a reference answer, unless its constraints say better what is right."""
        return bool((prompt.reference or "").strip()) and not prompt.metadata.get("constraints")

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        return (self.grade(prompt, trace) for prompt, trace in pairs)

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """1 when the result in the answer equals the reference."""
        reference, answer = readable(prompt.reference or "").strip(), tail_of(trace.answer)
        if not reference:
            return self.verdict(trace, None, f"{RuleName.BAD_REFERENCE}: the prompt has no reference answer")
        if not answer:
            return self.verdict(trace, 0.0, f"{RuleName.EMPTY}: the answer is empty")
        if self.options.after:
            return self._grade_text(trace, answer, reference)
        if only_number(reference) is not None:
            return self._grade_number(trace, answer, reference, prompt.question)
        passage = stated_result(answer)
        if self._same(answer, reference):
            return self.verdict(trace, 1.0, f"{RuleName.WHOLE_ANSWER}, {RuleName.SAME_TEXT}: equal to the reference",
                                answer)
        how, text = (passage.how, passage.text) if passage else (RuleName.WHOLE_ANSWER, answer)
        equal = self._same(text, reference)
        said = f"{how}, {RuleName.SAME_TEXT}: {'equal to' if equal else 'differs from'} the reference"
        return self.verdict(trace, float(equal), said, text)

    def _grade_text(self, trace: Trace, answer: str, reference: str) -> Fact:
        _, words, text = answer.rpartition(self.options.after)
        if not words:
            return self.verdict(trace, 0.0, f"{RuleName.STATED_AFTER}: the answer does not say '{self.options.after}'")
        stated = text.strip().removesuffix(".").rstrip()
        equal = stated == reference or (self.options.ignore_case and stated.casefold() == reference.casefold())
        reason = f"{RuleName.STATED_AFTER}, {RuleName.SAME_TEXT}: {'equal to' if equal else 'differs from'} {reference}"
        return self.verdict(trace, float(equal), reason, stated)

    def _grade_number(self, trace: Trace, answer: str, reference: str, question: str) -> Fact:
        gold, passage = only_number(reference), stated_result(answer)
        if passage is not None:
            chosen, how = choose(passage.text, answer[:passage.start], question), passage.how
        else:
            chosen, how = last_number(answer, question), RuleName.LAST_NUMBER
        if chosen is None or chosen.number is None or gold is None:
            return self.verdict(trace, 0.0, f"{how}, {RuleName.NO_VALUE}: the answer states no number",
                                chosen.text if chosen else "")
        number = as_asked(chosen.number, f"{question} {reference}")
        equal = number.equals(gold)
        reason = f"{how}, {RuleName.SAME_NUMBER}: {'equal to' if equal else 'differs from'} {reference}"
        return self.verdict(trace, float(equal), reason, number.text)

    def _same(self, text: str, reference: str) -> bool:
        def normal(value: str) -> str:
            value = re.sub(r"\s+", " ", value.strip().strip("*_`\"'").strip()).rstrip(".!?").rstrip()
            return value.casefold() if self.options.ignore_case else value

        return normal(text) == normal(reference)

