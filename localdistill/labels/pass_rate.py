"""Measures how often a prompt is answered right, over samples and teachers, and how much that varies: prompts that are
always or never solved teach little (arXiv 2504.17565, section 3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, pstdev
from typing import ClassVar

from localdistill.core.facts import About
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures


class PassRateLabel(Measures):
    """The `pass_rate` label, of prompts: share of the answers found right, of those that somebody judged. Without a
    value where nobody judged any."""

    name = "pass_rate"
    version = 1
    about: ClassVar[About] = "prompt"
    needs: ClassVar[frozenset[Need]] = frozenset({"verdicts"})
    metrics: ClassVar[Mapping[str, str]] = {
        "judged": "Answers with a verdict; a rate of fewer than 4 says little.",
        "variation": "Coefficient of variation of the verdicts (0 or 1): their deviation by their mean. High for "
                     "prompts that are rarely solved, 0 for those that always are; none where no answer is right.",
        "weakest": "Pass rate of the teacher with the lowest.",
        "strongest": "Pass rate of the teacher with the highest.",
    }

    class Options(BaseOptions):
        """There is nothing to set: the graders of the recipe decide what is right."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Answers and how many of them are right."""
        prompt = asks("1 + 1?", "2")
        wrong, right = answers(prompt, "3"), answers(prompt, "2")
        return (
            LabelSample(prompt, wrong, 0.5, {"judged": 2, "variation": 1.0, "weakest": 0.5, "strongest": 0.5},
                        more=(right, right), passed=(False, True, None)),
            LabelSample(prompt, right, 1.0, {"judged": 1, "variation": 0.0, "weakest": 1.0, "strongest": 1.0},
                        passed=(True,)),
            LabelSample(prompt, wrong, 0.0, {"judged": 1, "weakest": 0.0, "strongest": 0.0}, passed=(False,)),
            LabelSample(prompt, right, None, {"judged": 0}, passed=(None,)),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. Rewritten answers are not the teacher's and count for nothing."""
        by_prompt: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for prompt, trace in pairs:
            teachers = by_prompt[prompt.id]
            passed = None if trace.is_rewritten else means.passed(trace.id)
            if passed is not None:
                teachers[trace.model].append(passed)
        for prompt_id, teachers in by_prompt.items():
            yield self._fact(prompt_id, teachers)

    def _fact(self, prompt_id: str, teachers: Mapping[str, Sequence[bool]]) -> Fact:
        verdicts = [float(passed) for one in teachers.values() for passed in one]
        metrics = {"judged": float(len(verdicts))}
        mean = fmean(verdicts) if verdicts else None
        if mean is not None:
            rates = [fmean(one) for one in teachers.values()]
            metrics |= {"weakest": min(rates), "strongest": max(rates)}
            if mean:
                metrics["variation"] = pstdev(verdicts) / mean
        return Fact(prompt_id, self.name, self.version, kind=self.kind, value=mean, metrics=metrics)
