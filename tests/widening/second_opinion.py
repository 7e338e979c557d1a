"""Lets an engine say whether an answer is right: an example of a grader with a judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from localdistill.core.means import Means
from localdistill.core.options import EngineName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Message, Prompt, Reply, Request, Sampling, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces


class SecondOpinionGrader(JudgesTraces):
    """The `second_opinion` grader."""

    name = "second_opinion"
    version = 1

    class Options(BaseOptions):
        """Options of `second_opinion`."""

        judge: EngineName = ""
        """The engine that is asked."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and what the judge made of them."""
        prompt = asks("What is 2 + 2?", "4")
        trace, said = answers(prompt, "It is 4."), Reply("", "complete", answer="Yes")
        return (
            GraderSample(prompt, trace, 1.0, replies=(said,)),
            GraderSample(prompt, trace, 0.0, replies=(replace(said, answer=" no\n"),)),
            GraderSample(prompt, trace, None, replies=(replace(said, answer="Four is a lovely number"),),
                         refused="said neither yes nor no"),
            GraderSample(prompt, trace, None, replies=(replace(said, status="length"),), refused="was cut off"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """Where there is something to compare with."""
        return bool(prompt.reference)

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """One question for each answer."""
        asked = (Request(trace.id, (Message("user", _question(prompt, trace)),), Sampling(max_tokens=5))
                 for prompt, trace in pairs)
        for reply in means.ask["judge"](asked):
            passed = {"yes": True, "no": False}.get(reply.answer.strip().casefold())
            reason = "the judge said neither yes nor no"
            if reply.status != "complete":
                passed, reason = None, "the judge was cut off"
            elif passed is not None:
                reason = f"the judge says {reply.answer.strip()}"
            yield Fact(reply.request_id, self.name, self.version, value=None if passed is None else float(passed),
                       passed=passed, reason=reason)


def _question(prompt: Prompt, trace: Trace) -> str:
    return (f"Question: {prompt.question}\nExpected: {prompt.reference}\nGiven: {trace.answer}\n"
            "Is what was given right? Say yes or no.")
