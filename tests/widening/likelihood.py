"""How likely a model finds an answer: an example of a label with a scorer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.options import ScorerName
from localdistill.core.records import Continuation, Fact, Prompt, Reply, Request, TokenScores, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures


class LikelihoodLabel(Measures):
    """The `likelihood` label: nats of the whole answer."""

    name = "likelihood"
    version = 1
    metrics: ClassVar[Mapping[str, str]] = {"tokens": "Tokens of the answer, as the scorer counts them."}

    class Options(BaseOptions):
        """Options of `likelihood`."""

        scorer: ScorerName = ""
        """The engine that scores."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """An answer of two tokens."""
        prompt = asks("1 + 1?", "2")
        scores = TokenScores((4, 5), (-1.5, -0.5), ((), ()), ((), ()))
        said = Reply("", "complete", continuations=(scores,))
        return (LabelSample(prompt, answers(prompt, "2"), -2.0, {"tokens": 2.0}, replies=(said,)),)

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """Always."""
        return True

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """One request for each answer."""
        asked = (Request(trace.id, prompt.messages, continuations=(Continuation(trace.answer),))
                 for prompt, trace in pairs)
        for reply in means.ask["scorer"](asked):
            [scores] = reply.continuations
            yield Fact(reply.request_id, self.name, self.version, kind=self.kind, value=scores.total,
                       metrics={"tokens": float(len(scores.logprobs))})
