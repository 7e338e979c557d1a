"""Several graders as one: right where all of them say so, where any does, or as the first says that can. Which of them
said what stands in the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

from pydantic import Field

from localdistill.core.borders import BORDERS
from localdistill.core.means import Means
from localdistill.core.options import GraderChoices, Member
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders import GRADERS
from localdistill.graders.base import Grader, JudgesTraces

Pair = tuple[Prompt, Trace]


class CombinedGrader(JudgesTraces):
    """The `combined` grader. Of an answer those of its graders speak that apply to the prompt."""

    name = "combined"
    version = 1

    class Options(BaseOptions):
        """Options of `combined`."""

        of: GraderChoices = Field(default=("exact", "instructions"), min_length=1)
        """The graders, each by its name or as a table with `use` and its options."""
        rule: Literal["all", "any", "first"] = "all"
        """`all`: right where every grader that applies says so. `any`: right where one does. `first`: what the first
        grader says that can decide; the later ones are not asked then."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        prompt, plain = asks("Who?", "Eve", metadata={"calls": []}), asks("Hello!")
        both = {"of": ["tool_calls", {"use": "exact", "options": {"ignore_case": False}}]}
        return (
            GraderSample(prompt, answers(prompt, "eve"), 1.0),
            GraderSample(prompt, answers(prompt, "Adam"), 0.0),
            GraderSample(prompt, answers(prompt, "Eve"), 1.0, options=both),
            GraderSample(prompt, answers(prompt, "eve"), 0.0, options=both),
            GraderSample(prompt, answers(prompt, "Adam"), 1.0, options={**both, "rule": "any"}),
            GraderSample(prompt, answers(prompt, "Adam"), 1.0, options={**both, "rule": "first"}),
            GraderSample(plain, answers(plain, "Hello!"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._parts: list[Grader] = [_built(choice) for choice in self.options.of]

    def applies(self, prompt: Prompt) -> bool:
        """Where one of its graders does."""
        return any(part.applies(prompt) for part in self._parts)

    def check(self) -> None:
        """What stands in the way of one of its graders."""
        for part in self._parts:
            part.check()

    def close(self) -> None:
        """Close them all."""
        for part in self._parts:
            part.close()

    def facts(self, pairs: Iterable[Pair], means: Means) -> Iterator[Fact]:
        """See FactMaker. Answers are judged in groups, so that a grader which asks is asked of many at once."""
        source = iter(pairs)
        while group := list(islice(source, BORDERS.judged_together)):
            yield from self._of_group(group, means)

    def _of_group(self, group: Sequence[Pair], means: Means) -> Iterator[Fact]:
        said: dict[str, list[tuple[str, Fact]]] = {trace.id: [] for _, trace in group}
        silent = set[str]()
        for place, part in enumerate(self._parts):
            own = [(prompt, trace) for prompt, trace in group if part.applies(prompt)
                   and not (self.options.rule == "first" and _decides([fact for _, fact in said[trace.id]]))]
            asked = {trace.id for _, trace in own}
            for fact in part.facts(own, means.parts[place] if place < len(means.parts) else means):
                said[fact.subject_id].append((part.name, fact))
                asked.discard(fact.subject_id)
            silent |= asked
        for _, trace in group:
            if trace.id not in silent:
                yield self._together(trace, said[trace.id])

    def _together(self, trace: Trace, said: Sequence[tuple[str, Fact]]) -> Fact:
        if not said:
            return Fact(trace.id, self.name, self.version, reason="no grader has anything to judge by")
        facts = [fact for _, fact in said]
        verdict = _VERDICTS[self.options.rule]([fact.passed for fact in facts])
        reason = f"{self.options.rule} of: " + "; ".join(f"{name}: {_word(fact.passed)}, {fact.reason}"
                                                         for name, fact in said)
        telling = next((fact for fact in facts if fact.passed is verdict), facts[0])
        return Fact(trace.id, self.name, self.version, value=None if verdict is None else float(verdict),
                    passed=verdict, reason=reason, extracted=telling.extracted)


def _built(choice: str | Member) -> Grader:
    member = Member(use=choice) if isinstance(choice, str) else choice
    cls = GRADERS.load(member.use)
    made: Grader = cls(cls.Options.model_validate(member.options))
    return made


def _decides(facts: Sequence[Fact]) -> bool:
    return any(fact.passed is not None for fact in facts)


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    return False if False in verdicts else None if None in verdicts else True


def _any(verdicts: Sequence[bool | None]) -> bool | None:
    return True if True in verdicts else None if None in verdicts else False


def _first(verdicts: Sequence[bool | None]) -> bool | None:
    return next((verdict for verdict in verdicts if verdict is not None), None)


_VERDICTS = {"all": _all, "any": _any, "first": _first}


def _word(passed: bool | None) -> str:
    return "undecided" if passed is None else "right" if passed else "wrong"
