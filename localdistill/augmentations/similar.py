"""New questions in the manner of a user's examples: a few of them are shown, another one of their kind is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.augmentations.writing import Seed, WriterOptions, Writes
from localdistill.core.events import Emit
from localdistill.core.records import Message, Prompt
from localdistill.core.samples import AugmentationSample, asks

SIMILAR_PROMPT = (
    "Here are examples of the questions that a student must learn to answer.\n\n{examples}\n\nWrite one new question "
    "of the same kind and difficulty: another situation, other names and numbers, complete in itself.{answer}\n\n"
    "Write nothing but\nQUESTION: the new question{answer_line}")


class SimilarAugmentation(Writes):
    """Asks the writer for new questions like the recipe's prompts. Where all of the examples that it is shown have a
    reference, it writes one too, and a solver must come to the same."""

    name: ClassVar[str] = "similar"

    class Options(WriterOptions):
        """See WriterOptions."""

        shown: int = Field(3, ge=1, le=20)
        """Examples in one question to the writer: the prompt and those behind it, from the last on to the first."""
        tries: int = Field(3, ge=0, le=16)
        """Answers asked of the solver per new question: most of them must be the writer's own. 0 asks for none and
        keeps no reference."""

    @classmethod
    def samples(cls) -> Sequence[AugmentationSample]:
        """Prompts, replies and the question that must come of them."""
        known, open_one = asks("Tom has 3 bags of 4 apples. How many apples?", "12"), asks("Why is the sky blue?")
        question = "A hen lays 2 eggs a day. How many eggs are that in 5 days?"
        written = f"QUESTION: {question}\nANSWER: 10"
        once: dict[str, object] = {"gates": [], "tries": 1}
        return (
            AugmentationSample([known], [written, "2 * 5\nANSWER: 10 eggs"], question, "10", options=once),
            AugmentationSample([known], [written, "ANSWER: 7"], options=once, refused="not the one that is claimed"),
            AugmentationSample([known], [f"QUESTION: {question}"], refused="no line ANSWER"),
            AugmentationSample([known], [written], question, options={"gates": [], "tries": 0}),
            AugmentationSample([open_one], ["QUESTION: Why does the sea taste of salt?"],
                               "Why does the sea taste of salt?", options=once),
        )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options: SimilarAugmentation.Options = options

    def seeds(self, prompts: Sequence[Prompt], emit: Emit) -> Iterator[Seed]:
        """Every prompt with those behind it."""
        for place in range(len(prompts)):
            shown = [prompts[(place + step) % len(prompts)] for step in range(min(self.options.shown, len(prompts)))]
            has_answers = all(one.reference for one in shown)
            examples = "\n\n".join(f"QUESTION: {one.question}" + (f"\nANSWER: {one.reference}" if has_answers else "")
                                   for one in shown)
            text = SIMILAR_PROMPT.format(
                examples=examples, answer=" Its answer must be short: a number, a name or a few words."
                if has_answers else "", answer_line="\nANSWER: its answer" if has_answers else "")
            yield Seed(text, tuple(one.id for one in shown), has_answer=has_answers)

    def read(self, seed: Seed, question: str, answer: str) -> Prompt | str:
        """The new prompt; its answer is the reference where there is one to be checked."""
        if seed.has_answer and not answer:
            return "the reply has no line ANSWER:"
        return Prompt((Message("user", question),), answer if seed.has_answer and self.options.tries else None)
