"""What tasks of multiple choice share: a question with options of which one is right, in the order of the file or
mixed, answered in words or by the likelihood of each option, alone or behind worked examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from localdistill.core.options import FileName
from localdistill.core.records import Continuation, Message, Prompt, Reply, Request
from localdistill.tasks.base import Given, Judge, Scored
from localdistill.tasks.items import FileTask, ItemOptions, ItemSource
from localdistill.tasks.rows import ItemRow, RowTask, rows_in

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FROM_NOTHING = Message("user", "Answer:")
"""Behind which an option is as likely as it is without its question."""
_STEPS = "Think it over, then end with: The answer is (X), where X is the letter of the right option."
_LETTER = "Answer with the letter of the right option."
_COMPARED = {"plain": "as it is", "length": "by character", "unconditional": "against that without the question"}
_METRICS = {
    "plain": "1 where the right option is the likeliest as it stands.",
    "by_length": "1 where it is the likeliest for each of its characters.",
    "margin": "Nats by which the right option is above the best other one, as they are compared.",
}


@dataclass(frozen=True)
class Choices:
    """A question with its options."""

    question: str
    options: Sequence[str]
    right: int
    """Place of the right one, from 0."""
    category: str = ""

    def mixed(self, number: int, seed: int) -> Choices:
        """The options in another order, by `seed` and the item's number: the right one at the place whose turn it is,
        so that every place has it equally often, the others around it by chance."""
        others = [text for place, text in enumerate(self.options) if place != self.right]
        random.Random(f"{seed}/{number}").shuffle(others)
        right = (number + seed) % len(self.options)
        others.insert(right, self.options[self.right])
        return Choices(self.question, others, right, self.category)

    def listed(self) -> str:
        """Question and options, one a line."""
        return self.question.strip() + "\n\n" + "\n".join(
            f"{letter}. {text}" for letter, text in zip(LETTERS, self.options))


class ChoiceTask(RowTask):
    """Questions with options. A member says `name`, `is_guard` and what the options of a row are."""

    ask = _STEPS

    class Options(FileTask.Options):
        """Options of a task of multiple choice."""

        by: Literal["generation", "likelihood"] = "generation"
        """`generation`: the model writes an answer, and what option it states counts. `likelihood`: nothing is written,
        the likeliest option counts; several times faster, and what base models can be measured by."""
        of: Literal["letters", "texts"] = "letters"
        """By likelihood, of what: of the `letters` of options that are listed, or of the options' own `texts` behind
        the bare question."""
        normalised: Literal["plain", "length", "unconditional"] = "plain"
        """By likelihood, how options are compared: by log-probability as it is, by that of each character (long options
        are not at a disadvantage), or by how much likelier the question makes them (twice the work)."""
        order: int = Field(-1, ge=-1)
        """Seed of the order of the options, the right one at every place equally often; -1 leaves them as in the
        file."""
        examples: FileName = ""
        """File of questions that are shown as worked examples, in the form of the items; empty shows none. Where there
        are such of the item's own category, only they are shown."""
        shots: int = Field(5, ge=0)
        """How many of them."""

    def __init__(self, options: ItemOptions, source: ItemSource | None = None) -> None:
        super().__init__(options, source)
        self.grader = "choice"
        if self._likelihood:
            self.grader, self.metrics = "", _METRICS
            self.rule = f"likelihood of the options' {self.own.of}, {_COMPARED[self.own.normalised]}"

    def choices(self, row: ItemRow) -> Choices:
        """The question of a row. InputError for a row without what it needs."""
        raise NotImplementedError

    @property
    def own(self) -> Options:
        """The options, in their type."""
        assert isinstance(self.options, ChoiceTask.Options)
        return self.options

    @property
    def _likelihood(self) -> bool:
        return self.own.by == "likelihood"

    def _items_of(self, source: ItemSource) -> Sequence[Prompt]:
        return self.some(self._read(source, self.path))

    def _read(self, source: ItemSource, path: Path) -> list[Prompt]:
        found: list[Prompt] = []
        for row in rows_in(source, path):
            one = self.choices(row)
            if not 2 <= len(one.options) <= len(LETTERS) or not 0 <= one.right < len(one.options):
                raise row.error(f"of {len(one.options)} options number {one.right + 1} cannot be the right one")
            if self.own.order >= 0:
                one = one.mixed(len(found), self.own.order)
            found.append(row.prompt(one.listed(), LETTERS[one.right], category=one.category,
                                    stem=one.question.strip(), options=list(one.options)))
        return found

    @cached_property
    def _examples(self) -> Sequence[Prompt]:
        path = self.own.examples
        return self._read(self.source, self.placed(path)) if path and self.own.shots else ()

    def _shown(self, prompt: Prompt) -> Sequence[Prompt]:
        """The examples that are shown before an item; it is not among them."""
        others = [one for one in self._examples if one.question != prompt.question]
        alike = [one for one in others if self.category(one) == self.category(prompt)]
        return (alike or others)[:self.own.shots]

    def turns(self, prompt: Prompt) -> tuple[Message, ...]:
        """The examples, each with its answer, then the item."""
        return tuple(turn for one in (*self._shown(prompt), prompt) for turn in self._turns(one))[:-1]

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """A question to answer; or one whose options are scored, with the scores of the same options behind no question
        where they are compared by that. Nothing is thought then: an option stands where the answer begins."""
        if not self._likelihood:
            return super().requests(prompt, given)
        ends = tuple(Continuation(text) for text in self._compared(prompt))
        asked = [Request("", self.turns(prompt), thinks=False, continuations=ends)]
        if self.own.normalised == "unconditional":
            asked.append(Request("unconditional", (FROM_NOTHING,), thinks=False, continuations=ends))
        return asked

    def _turns(self, prompt: Prompt) -> tuple[Message, Message]:
        """A question and its right answer, as this task asks."""
        letter = str(prompt.reference)
        if self._likelihood and self.own.of == "texts":
            return Message("user", str(prompt.metadata["stem"])), Message("assistant", self._right_text(prompt))
        behind = _LETTER if self._likelihood else self.behind(prompt)
        said = letter if self._likelihood else f"The answer is ({letter})."
        return Message("user", f"{prompt.question}\n\n{behind}"), Message("assistant", said)

    def _right_text(self, prompt: Prompt) -> str:
        return str(prompt.metadata["options"][LETTERS.index(str(prompt.reference))])

    def _compared(self, prompt: Prompt) -> Sequence[str]:
        options: Sequence[Any] = prompt.metadata["options"]
        return LETTERS[:len(options)] if self.own.of == "letters" else [str(text) for text in options]

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """What the grader says; or 1 where the right option is the likeliest, alone."""
        if not self._likelihood:
            return super().score(prompt, replies, judge)
        unscored = next((reply for reply in replies if not reply.continuations), None)
        if unscored is not None:
            return Scored(0.0, undecided=unscored.error or "nothing was scored")
        texts, right = self._compared(prompt), LETTERS.index(str(prompt.reference))
        totals = [[scores.total for scores in reply.continuations] for reply in replies]
        plain, by_length = totals[0], [total / len(text) for total, text in zip(totals[0], texts)]
        compared = {"plain": plain, "length": by_length,
                    "unconditional": [total - alone for total, alone in zip(plain, totals[-1])]}[self.own.normalised]
        margin = _margin(compared, right)
        best = max(range(len(compared)), key=compared.__getitem__)
        return Scored(float(margin > 0), f"{LETTERS[best]}. {prompt.metadata['options'][best]}", {
            "plain": float(_margin(plain, right) > 0), "by_length": float(_margin(by_length, right) > 0),
            "margin": margin})


def _margin(values: Sequence[float], right: int) -> float:
    """By how much the right one is above the best other one."""
    return values[right] - max(value for place, value in enumerate(values) if place != right)
