"""The same question in other words: its numbers and its answer stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from localdistill.augmentations.writing import Seed, WriterOptions, Writes, asking_instead
from localdistill.core.events import Emit
from localdistill.core.records import Prompt
from localdistill.core.samples import AugmentationSample, asks
from localdistill.core.stated_numbers import numbers

REPHRASE_PROMPT = (
    "Put the question below into other words, as another person would ask it: other sentences, another order, the same "
    "meaning and the same answer. Keep every number, name and unit as it is written. Do not answer it.\n\n"
    "{question}\n\nWrite one line QUESTION: and the new question behind it, nothing else.")


class RephraseAugmentation(Writes):
    """Asks the writer for each prompt's question in other words. Reference and tests stay those of the prompt."""

    name: ClassVar[str] = "rephrase"

    class Options(WriterOptions):
        """See WriterOptions."""

    @classmethod
    def samples(cls) -> Sequence[AugmentationSample]:
        """Prompts, replies and the question that must come of them."""
        prompt = asks("Tom has 3 bags of 4 apples. How many apples has he?", "12")
        told = "QUESTION: How many apples does Tom have in 3 bags that hold 4 each?"
        return (
            AugmentationSample([prompt], [told, "It is one. VERDICT: yes", "VERDICT: yes"],
                               told.partition(": ")[2], "12", options={"gates": ["question", "complete"]}),
            AugmentationSample([prompt], [told, "ANSWER: 12 apples"], told.partition(": ")[2], "12",
                               options={"gates": [], "tries": 1}),
            AugmentationSample([prompt], [told, "I count.\nANSWER: 7"], refused="not the one that is claimed",
                               options={"gates": [], "tries": 1}),
            AugmentationSample([prompt], ["QUESTION: How many apples are in Tom's 5 bags of 4?"],
                               refused="other numbers"),
            AugmentationSample([prompt], ["Sure! Here you go."], refused="no line QUESTION"),
            AugmentationSample([prompt], [told, "\n**VERDICT:** no"], refused="gate 'language': no",
                               options={"gates": ["language"]}),
            AugmentationSample([prompt], [told, "A fine question."], refused="no verdict could be read",
                               options={"gates": ["language"]}),
        )

    def seeds(self, prompts: Sequence[Prompt], emit: Emit) -> Iterator[Seed]:
        """Every prompt."""
        for prompt in prompts:
            yield Seed(REPHRASE_PROMPT.format(question=prompt.question), (prompt.id,), prompt)

    def read(self, seed: Seed, question: str, answer: str) -> Prompt | str:
        """The prompt in these words, where they hold the same numbers."""
        assert seed.parent is not None, "`seeds` gives it"
        if set(numbers(question)) != set(numbers(seed.parent.question)):
            return "it holds other numbers than the question"
        return replace(asking_instead(seed.parent, question, seed.parent.reference), tests=seed.parent.tests)
