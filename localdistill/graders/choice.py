"""Grades choices among options: the letters (or `answer3`) that an answer states, by letter or in an option's words,
against those of the reference. Several right letters must all be stated, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces
from localdistill.graders.listed_options import labels_in, options_of
from localdistill.graders.readable import readable, tail_of
from localdistill.graders.rules import RuleName
from localdistill.graders.stated_choice import stated_choice


class ChoiceGrader(JudgesTraces):
    """The `choice` grader."""

    name = "choice"
    version = 1

    class Options(BaseOptions):
        """Options of `choice`."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        asked = "Which is a fruit?\nA. stone\nB. pear\nC. cloud\nD. plum"
        one, two, none = asks(asked, "B"), asks(asked, "B, D"), asks("How many?", "42")
        return (
            GraderSample(one, answers(one, "A stone is none, so the answer is (B)."), 1.0),
            GraderSample(one, answers(one, "It is a pear."), 1.0),
            GraderSample(one, answers(one, "The answer is C."), 0.0),
            GraderSample(one, answers(one, "It is either (A) or (B)."), 0.0),
            GraderSample(two, answers(two, "The answers are B and D."), 1.0),
            GraderSample(two, answers(two, "The answer is B."), 0.0),
            GraderSample(none, answers(none, "42"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """True where the reference names options of the question, unless constraints say better what is right."""
        return not prompt.metadata.get("constraints") and bool(
            labels_in(readable(prompt.reference or ""), options_of(readable(prompt.question))))

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        return (self.grade(prompt, trace) for prompt, trace in pairs)

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """1 when the options that the answer states are those of the reference; the reason names the rule."""
        options = options_of(readable(prompt.question))
        right = labels_in(readable(prompt.reference or ""), options)
        if not right:
            return self.verdict(trace, None, f"{RuleName.BAD_REFERENCE}: the reference names no option of the question")
        answer = tail_of(trace.answer)
        if not answer:
            return self.verdict(trace, 0.0, f"{RuleName.EMPTY}: the answer is empty")
        stated = stated_choice(answer, options, len(right) > 1)
        if stated is None:
            return self.verdict(trace, 0.0, f"{RuleName.NO_OPTION}: the answer names none of the options")
        if not stated.labels:
            return self.verdict(trace, 0.0, f"{stated.rule}: states no single choice", stated.text)
        equal = set(stated.labels) == set(right)
        said = f"{stated.rule}, {RuleName.SAME_OPTION}: {'equal to' if equal else 'differs from'} {', '.join(right)}"
        return self.verdict(trace, float(equal), said, ", ".join(_told(label, options) for label in stated.labels))


def _told(label: str, options: Mapping[str, str]) -> str:
    return f"{label}. {options[label]}" if options.get(label) else label
