"""Says what kind of prompt it is, by rule: what its row states, what there is to judge an answer with, its words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from localdistill.core.facts import About
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.prompt_kinds import guessed_kind_of
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures, each_once


class PromptKindLabel(Measures):
    """The `prompt_kind` label, of prompts: math, code, instructions, choice, chat, other, or what the row states."""

    name = "prompt_kind"
    version = 1
    about: ClassVar[About] = "prompt"
    says: ClassVar[Literal["number", "text"]] = "text"

    class Options(BaseOptions):
        """There is nothing to set."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Prompts and their kinds."""
        told = ((asks("1 + 1?", "2"), "math"), (asks("Write a Python function that adds."), "code"),
                (asks("Say jar.", metadata={"constraints": [{"kind": "lowercase"}]}), "instructions"),
                (asks("Which?", "(B)"), "choice"), (asks("Who was it?", "Eve"), "other"),
                (asks("How many eggs are there?"), "math"), (asks("Go on.", metadata={"kind": "story"}), "story"))
        return tuple(LabelSample(prompt, answers(prompt, "2"), kind) for prompt, kind in told)

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        for prompt in each_once(pairs):
            yield Fact(prompt.id, self.name, self.version, kind=self.kind, value=guessed_kind_of(prompt))
