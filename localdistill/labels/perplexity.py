"""Measures how surprising a reply is to a model: text that no model would write is broken, in another language, or
about nothing; the usual border of the reasoning sets is 20 (arXiv 2504.17565)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.options import ScorerName
from localdistill.core.records import Continuation, Fact, Prompt, Reply, Request, TokenScores, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures
from localdistill.templates import join_thinking

_MOST_LOG = 700.0
"""Beyond this a number has no room for the power."""


class PerplexityLabel(Measures):
    """The `perplexity` label: e to the mean negative log-probability of the reply's tokens, given its question."""

    name = "perplexity"
    version = 1
    metrics: ClassVar[Mapping[str, str]] = {
        "tokens": "Tokens of the text, as the scorer counts them.",
        "nats": "Negative log-probability of the whole text, in nats.",
    }

    class Options(BaseOptions):
        """Options of `perplexity`."""

        scorer: ScorerName = ""
        """The engine that scores, by its name in the recipe."""
        of: Literal["reply", "answer", "reasoning"] = "reply"
        """What is scored: reasoning in think tags and answer, or one of them alone."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Texts of two tokens."""
        prompt = asks("1 + 1?", "2")
        said = Reply("", "complete", continuations=(TokenScores((4, 5), (-1.5, -0.5), ((), ()), ((), ())),))
        none = Reply("", "complete", continuations=(TokenScores((), (), (), ()),))
        return (
            LabelSample(prompt, answers(prompt, "2"), math.e, {"tokens": 2.0, "nats": 2.0}, replies=(said,)),
            LabelSample(prompt, answers(prompt, "2"), None, {"tokens": 0.0, "nats": 0.0}, replies=(none,)),
            LabelSample(prompt, answers(prompt, "2"), None, options={"of": "reasoning"}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. A trace without the text that is to be scored has no value and costs nothing."""
        empty: list[str] = []
        for reply in means.ask["scorer"](self._requests(pairs, empty)):
            yield from map(self._none, _drained(empty))
            [scores] = reply.continuations
            count, nats = len(scores.logprobs), -scores.total
            value = math.exp(min(nats / count, _MOST_LOG)) if count else None
            yield Fact(reply.request_id, self.name, self.version, kind=self.kind, value=value,
                       metrics={"tokens": float(count), "nats": abs(nats)})
        yield from map(self._none, _drained(empty))

    def _requests(self, pairs: Iterable[tuple[Prompt, Trace]], empty: list[str]) -> Iterator[Request]:
        for prompt, trace in pairs:
            text = {"answer": trace.answer, "reasoning": trace.reasoning,
                    "reply": join_thinking(trace.reasoning, trace.answer) if trace.reasoning else trace.answer,
                    }[self.options.of]
            if text.strip():
                yield Request(trace.id, prompt.messages, continuations=(Continuation(text),))
            else:
                empty.append(trace.id)

    def _none(self, trace_id: str) -> Fact:
        return Fact(trace_id, self.name, self.version, kind=self.kind, reason="there is no text to score")


def _drained(names: list[str]) -> list[str]:
    """The names, taken out."""
    found = names[:]
    del names[:len(found)]
    return found
