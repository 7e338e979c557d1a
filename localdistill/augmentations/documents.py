"""Questions from a user's documents: a piece is shown, and a question is asked for that can be answered without it. A
question whose answer only the piece tells is refused: a solver who does not see it must come to the writer's answer
(after NaturalReasoning)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from localdistill.augmentations.chunks import chunks_in
from localdistill.augmentations.writing import Seed, WriterOptions, Writes
from localdistill.core.errors import InputError
from localdistill.core.events import Emit
from localdistill.core.options import FileName
from localdistill.core.records import Message, Prompt, content_id
from localdistill.core.samples import AugmentationSample

DOCUMENT_PROMPT = (
    "Read the passage, and write one demanding question about its subject that makes one think. It must be complete "
    "in itself: whoever answers it has not read the passage, and it does not mention it. Its answer must be short: a "
    "number, a name or a few words.\n\nPassage:\n{chunk}\n\nWrite two lines and nothing else:\nQUESTION: the question\n"
    "ANSWER: its answer")
_SPEAKS_OF_IT = re.compile(
    r"\b(?:the|this|that) (?:passage|text|excerpt|article|author|document|paragraph|section)\b"
    r"|\b(?:above|preceding|given) (?:passage|text|excerpt|article|paragraph)\b|\baccording to the\b", re.IGNORECASE)
_TEXT = ("Hens lay fewer eggs in winter because the days are short. A hen of a common breed lays about five eggs in a "
         "week in June and about three in December, if nobody lights the barn.")


class DocumentsAugmentation(Writes):
    """Asks the writer for questions about each piece of a folder of texts."""

    name: ClassVar[str] = "documents"
    reads: ClassVar[Literal["prompts", "documents"]] = "documents"

    class Options(WriterOptions):
        """See WriterOptions."""

        documents: FileName
        """A text file, or a folder with text files (.txt, .md, .rst; UTF-8)."""
        words: int = Field(300, ge=20, le=20_000)
        """Size of the pieces that the writer is shown one by one, in words, about; cut between paragraphs."""
        tries: int = Field(3, ge=0, le=16)
        """Answers asked of the solver, who does not see the piece: most of them must be the writer's. 0 asks for none,
        and believes it."""

    @classmethod
    def samples(cls) -> Sequence[AugmentationSample]:
        """Documents, replies and the question that must come of them."""
        question = "Why do hens in an unlit barn lay fewer eggs in December than in June?"
        written = f"QUESTION: {question}\nANSWER: short days"
        options: dict[str, object] = {"documents": "texts", "gates": [], "tries": 1}
        files = {"texts/hens.txt": _TEXT}
        return (
            AugmentationSample([], [written, "ANSWER: because of the short days"], question, "short days",
                               files=files, options=options),
            AugmentationSample([], [written, "ANSWER: the cold"], files=files, options=options,
                               refused="not the one that is claimed"),
            AugmentationSample([], ["QUESTION: How many eggs, according to the passage?\nANSWER: 5"], files=files,
                               options=options, refused="speaks of the passage"),
            AugmentationSample([], [], files={"texts/hens.pdf": "%PDF"}, options=options, refused="no text file"),
            AugmentationSample([], [], files={"texts/short.txt": "Too short."}, options=options,
                               refused="nothing long enough"),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options: DocumentsAugmentation.Options = options

    def seeds(self, prompts: Sequence[Prompt], emit: Emit) -> Iterator[Seed]:
        """Every piece of every document."""
        place, has_any = Path(self.options.documents), False
        for name, number, chunk in chunks_in(place, self.options.words, emit):
            has_any = True
            yield Seed(DOCUMENT_PROMPT.format(chunk=chunk), (content_id("chunk", chunk),), None, name, number)
        if not has_any:
            raise InputError(f"{place.name} holds nothing long enough to ask about", "give longer texts")

    def read(self, seed: Seed, question: str, answer: str) -> Prompt | str:
        """The new prompt, with its document."""
        if not answer:
            return "the reply has no line ANSWER:"
        if _SPEAKS_OF_IT.search(question):
            return "it speaks of the passage"
        return Prompt((Message("user", question),), answer, source=seed.document,
                      metadata={"document": seed.document, "chunk": seed.chunk})
