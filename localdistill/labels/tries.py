"""Counts how many answers a prompt took until one was accepted: a measure of its difficulty for the teacher, over the
answers that are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.facts import About
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures


class TriesLabel(Measures):
    """The `tries` label, of prompts: of the model that needed the fewest. Without a value where none was accepted."""

    name = "tries"
    version = 1
    about: ClassVar[About] = "prompt"
    needs: ClassVar[frozenset[Need]] = frozenset({"verdicts"})
    metrics: ClassVar[Mapping[str, str]] = {
        "asked": "Answers that are stored, of that model; where none was accepted, of the one with the most.",
        "accepted": "Answers among all that are stored which were accepted.",
    }

    class Options(BaseOptions):
        """There is nothing to set: the graders of the recipe decide what is accepted."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Answers and how many it took."""
        prompt = asks("1 + 1?", "2")
        wrong, right, late = answers(prompt, "3"), answers(prompt, "2"), answers(prompt, "2", status="length")
        return (
            LabelSample(prompt, right, 1.0, {"asked": 1, "accepted": 1}, passed=(True,)),
            LabelSample(prompt, wrong, 2.0, {"asked": 2, "accepted": 1}, more=(right,), passed=(False, True)),
            LabelSample(prompt, wrong, None, {"asked": 2, "accepted": 0}, more=(late,), passed=(False, None)),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. A complete answer that nobody judged is accepted, as it is while answers are asked for."""
        answered: dict[str, dict[str, list[tuple[int, bool]]]] = defaultdict(lambda: defaultdict(list))
        for prompt, trace in pairs:
            if not trace.is_rewritten:
                is_right = trace.status == "complete" and means.passed(trace.id) is not False
                answered[prompt.id][trace.model].append((trace.sample_index, is_right))
        for prompt_id, models in answered.items():
            counted = [_counted(sorted(tries)) for tries in models.values()]
            took, asked = min(counted, key=lambda one: (one[0] is None, one[0] or -one[1]))
            accepted = sum(is_right for tries in models.values() for _, is_right in tries)
            yield Fact(prompt_id, self.name, self.version, kind=self.kind, value=took,
                       metrics={"asked": float(asked), "accepted": float(accepted)})


def _counted(tries: Sequence[tuple[int, bool]]) -> tuple[float | None, int]:
    """The place of the first accepted answer, from 1, and how many answers there are."""
    took = next((float(place) for place, (_, is_right) in enumerate(tries, start=1) if is_right), None)
    return took, len(tries)
