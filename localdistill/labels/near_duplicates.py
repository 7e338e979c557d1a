"""Finds prompts whose question is nearly one that came before in the order of the traces: the same text with another
name, another number, another closing sentence. Which of them goes is for a filter to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.facts import About
from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures, each_once
from localdistill.texts.near import NearTexts


class NearDuplicatesLabel(Measures):
    """The `near_duplicates` label, of prompts: the Jaccard similarity to the nearest question before it that is no
    duplicate itself, 0 where none is near. `near_duplicates = 0` keeps one of each."""

    name = "near_duplicates"
    version = 2
    about: ClassVar[About] = "prompt"
    needs: ClassVar[frozenset[Need]] = frozenset({"others"})
    metrics: ClassVar[Mapping[str, str]] = {"same": "How many questions before it are near the same one."}

    class Options(BaseOptions):
        """Options of `near_duplicates`."""

        threshold: float = Field(default=0.8, gt=0.3, le=1)
        """Jaccard similarity of the n-grams from which two questions are near."""
        ngram: int = Field(default=3, ge=1, le=20)
        """Length of the n-grams, in words and marks."""
        mask_numbers: bool = False
        """Whether all numbers count as equal, so that templates with other numbers are near, too."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Prompts and what is near them; a sample holds one prompt, and nothing is near that."""
        prompt, empty = asks("How many eggs does the hen lay?"), asks("?")
        return (LabelSample(prompt, answers(prompt, "2"), 0.0, {"same": 0.0}, more=(answers(prompt, "3"),)),
                LabelSample(empty, answers(empty, "2"), 0.0, {"same": 0.0}, options={"mask_numbers": True}))

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        chosen, names, same = self.options, list[str](), dict[int, float]()
        near = NearTexts(chosen.threshold, chosen.ngram, chosen.mask_numbers)
        for place, found in enumerate(near.look_through(_questions(pairs, names))):
            number, similarity = found if found is not None else (-1, 0.0)
            same[number] = same.get(number, 0.0) + 1
            yield Fact(names[place], self.name, self.version, kind=self.kind, value=similarity,
                       metrics={"same": same[number] if found else 0.0},
                       reason=f"near {names[number]}" if found else "")


def _questions(pairs: Iterable[tuple[Prompt, Trace]], names: list[str]) -> Iterator[str]:
    """The question of each prompt, once; its id is added to `names`."""
    for prompt in each_once(pairs):
        names.append(prompt.id)
        yield prompt.question
