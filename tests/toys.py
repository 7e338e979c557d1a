"""Members that only tests have: a judge that asks an engine in batches, and a label that lets one score."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any

import pytest

from localdistill.core.means import Means
from localdistill.core.options import EngineName, ScorerName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Continuation, Fact, Message, Prompt, Request, Sampling, Trace
from localdistill.core.registry import Family
from localdistill.core.samples import GraderSample, LabelSample
from localdistill.graders import GRADERS
from localdistill.graders.base import JudgesTraces
from localdistill.labels.base import Measures


def listed(monkeypatch: pytest.MonkeyPatch, family: Family, name: str, member: type[Any]) -> None:
    """List `member` under `name`, for one test."""
    module = ModuleType(f"{family.package}.{name}")
    vars(module)[member.__name__] = member
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(family.members, name, member.__name__)  # type: ignore[arg-type]


class ToyJudge(JudgesTraces):
    """Asks an engine `Check N : ANSWER`, which says right or wrong, or answers N itself."""

    name = "toy_judge"
    version = 1

    class Options(BaseOptions):
        """Whom it asks."""

        judge: EngineName = ""
        """The engine that judges."""
        batch: int = 8
        """Questions that are asked together."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """None: it is a toy."""
        return ()

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """Always."""
        return True

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """In batches, which are only asked when they are full or nothing more is there."""
        source = iter(pairs)
        while batch := {trace.id: (prompt, trace) for prompt, trace in islice(source, self.options.batch)}:
            requests = [
                Request(key, (Message("user", f"Check {prompt.question.split()[1]} : {trace.answer}"),),
                        Sampling(max_tokens=50))
                for key, (prompt, trace) in batch.items()]
            for reply in means.ask["judge"](requests):
                said, answer = reply.answer.strip(), batch[reply.request_id][1].answer
                passed = {"right": True, answer: True, "wrong": False}.get(said)
                if reply.status != "complete":
                    passed = None
                reason = f"the judge says '{said}' ({reply.status})"
                yield Fact(reply.request_id, self.name, self.version, passed=passed, reason=reason,
                           value=None if passed is None else float(passed))


def with_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """List the judge."""
    listed(monkeypatch, GRADERS, "toy_judge", ToyJudge)


class ToyScorer(Measures):
    """How likely a scorer finds the tokens of an answer, which stand as ids of the tokenizer `mine`."""

    name = "toy_scorer"
    version = 1

    class Options(BaseOptions):
        """Whom it asks."""

        scorer: ScorerName = ""
        """The engine that scores."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """None: it is a toy."""
        return ()

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """Always."""
        return True

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """The sum over the tokens 5 and 6."""
        asked = (Request(trace.id, prompt.messages, continuations=(Continuation(token_ids=(5, 6)),), tokenizer="mine")
                 for prompt, trace in pairs)
        for reply in means.ask["scorer"](asked):
            yield Fact(reply.request_id, self.name, self.version, kind=self.kind, value=reply.continuations[0].total)
