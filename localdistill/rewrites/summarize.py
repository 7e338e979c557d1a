"""Summaries by a model (the paper's method 3). The paper does not publish its prompt; this one is ours and versioned.
The answer is never touched, and a summary that lost the result or talks to itself is rejected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.means import Means, Need
from localdistill.core.options import EngineName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Message, Prompt, Request, Sampling, Trace
from localdistill.core.samples import RewriteSample, answers, asks
from localdistill.rewrites.result import rewritten, verdict, why_rejected

SUMMARY_PROMPT = (
    "Summarize the reasoning below as the few steps that lead to its result. Keep every number that is used, drop "
    "checks and repetitions.\n\nQuestion:\n{question}\n\nReasoning:\n{reasoning}"
)


class SummarizeRewrite:
    """Replaces the reasoning by a model's summary of it."""

    name: ClassVar[str] = "summarize"
    version: ClassVar[int] = 1
    wording: ClassVar[int] = 1
    """Of `SUMMARY_PROMPT`."""
    needs: ClassVar[frozenset[Need]] = frozenset()

    class Options(BaseOptions):
        """Who writes, and how much."""

        summarizer: EngineName = ""
        """The engine that writes; empty takes the one that answered."""
        max_tokens: int = Field(512, ge=1)
        """Upper limit of new tokens for one summary."""

    @classmethod
    def samples(cls) -> Sequence[RewriteSample]:
        """Traces and the reasoning that must stand in its place."""
        prompt = asks("Tom has 3 bags of 4 apples and eats 2. How many are left?", "10")
        trace = answers(prompt, "10 are left.", "Hmm, 3 * 4 = 12. Wait, is it? Yes. Then 12 - 2 = 10 are left.")
        return (
            RewriteSample(prompt, trace, " 3 * 4 = 12, 12 - 2 = 10. ", "3 * 4 = 12, 12 - 2 = 10."),
            RewriteSample(prompt, trace, "3 * 4 = 12, he eats 2.", refused="the answer's number is not in"),
            RewriteSample(prompt, answers(prompt, "10 are left."), "10", refused="no reasoning to summarize"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def rewrite(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[tuple[Trace, Fact]]:
        """See Rewrite. Traces without reasoning are rejected without asking."""
        asked: dict[str, tuple[Prompt, Trace]] = {}
        silent: list[Trace] = []
        sampling = Sampling(max_tokens=self.options.max_tokens)

        def questions() -> Iterator[Request]:
            for prompt, trace in pairs:
                if not trace.reasoning.strip():
                    silent.append(trace)
                    continue
                asked[trace.id] = (prompt, trace)
                yield Request(trace.id, (Message("user", summary_request(prompt, trace)),), sampling)

        for reply in means.ask["summarizer"](questions()):
            prompt, parent = asked.pop(reply.request_id)
            summary = reply.answer.strip()
            trace = rewritten(parent, self, summary, reply)
            unfinished = "" if reply.status == "complete" else f"the summarizer's reply is {reply.status}"
            yield trace, verdict(trace, self, unfinished or why_rejected(prompt, parent, summary))
        for parent in silent:
            trace = rewritten(parent, self, "")
            yield trace, verdict(trace, self, "there is no reasoning to summarize")


def summary_request(prompt: Prompt, trace: Trace) -> str:
    """What the summarizer is asked about one trace."""
    return SUMMARY_PROMPT.format(question=prompt.question, reasoning=trace.reasoning.strip())
