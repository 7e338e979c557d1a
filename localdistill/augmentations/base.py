"""The contract of augmentations: prompts of a recipe, or documents, become more prompts, written by an engine and
checked before anybody is asked to answer them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Prompt
from localdistill.core.samples import AugmentationSample


@dataclass(frozen=True)
class PromptDraft:
    """What came of one question to the writer."""

    place: int
    """In the order in which the writer was asked, whatever the order of its replies."""
    made_from: tuple[str, ...]
    """Ids of the prompts, or of the piece of a document, that the writer was shown."""
    prompt: Prompt | None
    """What it wrote, with the answer that it claims as the reference; None where that is no question."""
    refused: str = ""
    """Why it may not be used, in words that are the same for the same reason; empty as long as nothing is known."""
    checked: tuple[str, ...] = ()
    """The checks that it has passed."""
    parent: Prompt | None = None
    """The prompt that it is another form of, where it is one."""


class Augmentation(Protocol):
    """Makes prompts. Built as `Member(options)`; what it asks engines for, its options of the type `EngineName` say."""

    name: ClassVar[str]
    version: ClassVar[int]
    wording: ClassVar[int]
    """Version of the words that engines are asked with."""
    reads: ClassVar[Literal["prompts", "documents"]]
    """What it starts from: the recipe's prompts, or files that its options name."""
    Options: ClassVar[type[BaseOptions]]
    needs: ClassVar[frozenset[Need]]

    @classmethod
    def samples(cls) -> Sequence[AugmentationSample]:
        """Prompts, replies and the question that must come of them."""

    def most(self, prompts: Sequence[Prompt]) -> int:
        """How many questions it makes at most. InputError where there is nothing to start from."""

    def drafts(self, prompts: Sequence[Prompt], means: Means) -> Iterator[PromptDraft]:
        """A draft for every reply of the writer, in any order; what it gave no reply to has none."""

    def check(self, drafts: Sequence[PromptDraft], means: Means) -> Iterator[PromptDraft]:
        """The drafts, none of them refused, after the checks that ask engines: with what they passed, or refused. What
        an engine gave no reply about is missing."""
