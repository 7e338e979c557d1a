"""A question turned round: its answer is given, and one of its numbers is asked for. Kept only where both directions
check: a solver finds the answer of the question, and the number of the reversed one (question reversal of DC-CoT)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from localdistill.augmentations.base import PromptDraft
from localdistill.augmentations.checking import agrees, solved
from localdistill.augmentations.writing import Seed, WriterOptions, Writes, asking_instead
from localdistill.core.events import Emit
from localdistill.core.means import Means
from localdistill.core.records import Prompt
from localdistill.core.samples import AugmentationSample, asks
from localdistill.core.stated_numbers import numbers

REVERSE_PROMPT = (
    "Below are a question and its answer. Turn the question round: state its answer as something that is known, pick "
    "one number that the question gives, leave that number out, and ask for it. Everything else stays.\n\n"
    "Question: {question}\nAnswer: {answer}\n\nWrite two lines and nothing else:\nQUESTION: the new question\n"
    "ANSWER: the number that it asks for")


class ReverseAugmentation(Writes):
    """Asks the writer to swap each prompt's answer with one of its numbers. Prompts without a reference of one number,
    or without a number, are left alone."""

    name: ClassVar[str] = "reverse"

    class Options(WriterOptions):
        """See WriterOptions."""

        tries: int = Field(1, ge=1, le=16)
        """Answers asked of the solver to the question and to the reversed one: of each, most must be right."""

    @classmethod
    def samples(cls) -> Sequence[AugmentationSample]:
        """Prompts, replies and the question that must come of them."""
        prompt = asks("Tom has 3 bags of 4 apples. How many apples has he?", "12")
        told = "QUESTION: Tom has 12 apples in bags of 4. How many bags has he?"
        question, written = told.partition(": ")[2], f"{told}\nANSWER: 3"
        bare: dict[str, object] = {"gates": []}
        return (
            AugmentationSample([prompt], [written, "ANSWER: 3", "ANSWER: 12"], question, "3", options=bare),
            AugmentationSample([prompt], [written, "ANSWER: 4", "ANSWER: 12"], options=bare,
                               refused="the reversed question"),
            AugmentationSample([prompt], [written, "ANSWER: 3", "ANSWER: 7"], options=bare,
                               refused="the question itself"),
            AugmentationSample([prompt], [f"{told}\nANSWER: 5"], refused="no number of the question"),
            AugmentationSample([prompt], [f"{told}\nANSWER: 4"], refused="gives away"),
            AugmentationSample([prompt], ["QUESTION: How many bags of 4 has Tom?\nANSWER: 3"],
                               refused="does not state the answer"),
        )

    def seeds(self, prompts: Sequence[Prompt], emit: Emit) -> Iterator[Seed]:
        """The prompts that can be turned round."""
        for prompt in prompts:
            if len(numbers(prompt.reference or "")) == 1 and numbers(prompt.question):
                text = REVERSE_PROMPT.format(question=prompt.question, answer=prompt.reference)
                yield Seed(text, (prompt.id,), prompt)

    def read(self, seed: Seed, question: str, answer: str) -> Prompt | str:
        """The reversed prompt, where the numbers have changed places."""
        assert seed.parent is not None, "`seeds` gives it"
        given, now, asked = numbers(seed.parent.question), numbers(question), numbers(answer)
        if len(asked) != 1 or asked[0] not in given:
            return "what it asks for is no number of the question"
        if now.count(asked[0]) >= given.count(asked[0]) + (asked[0] in numbers(seed.parent.reference or "")):
            return "it gives away the number that it asks for"
        if not set(numbers(seed.parent.reference or "")) <= set(now):
            return "it does not state the answer of the question"
        return asking_instead(seed.parent, question, answer)

    def check_answers(self, drafts: Sequence[PromptDraft], means: Means) -> Iterator[PromptDraft]:
        """Both directions."""
        ask, tries, most = means.ask["solver"], self.options.tries, self.options.max_tokens
        asked = {place: draft.prompt for place, draft in enumerate(drafts) if draft.prompt is not None}
        back = solved(asked, lambda place: drafts[place].made_from[0], ask, tries, most)
        right = [place for place, answers in back.items() if agrees(answers, asked[place].reference or "")]
        yield from (replace(drafts[place], refused="the solver's answers to the reversed question are not the number")
                    for place in back if place not in right)
        parents = {parent.id: parent for place in right if (parent := drafts[place].parent) is not None}
        forth = solved(parents, lambda key: key, ask, tries, most)
        for place in right:
            parent = drafts[place].parent
            if parent is None or parent.id not in forth:
                continue
            is_right = agrees(forth[parent.id], parent.reference or "")
            yield (replace(drafts[place], checked=("both directions",)) if is_right else
                   replace(drafts[place], refused="the solver's answers to the question itself are not its reference"))
