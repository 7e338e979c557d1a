"""Summaries without a model: keeps the steps whose results lead to the answer. It starts from the answer's number,
finds the step that computes it, then the steps that compute what that one used, back to the numbers of the question.

This is not the paper's method and is never called so: it copies the teacher's own words and drops the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pydantic import Field

from localdistill.core.means import Means, Need
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import RewriteSample, answers, asks
from localdistill.core.stated_numbers import numbers
from localdistill.rewrites.equations import Equation, equations
from localdistill.rewrites.result import final_number, is_monologue, rewritten, verdict, why_rejected

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'\\$*\d])|\n+")
_OPENING = re.compile(
    r"^(?:[-*•]\s+|(?:(?:okay|ok|alright|right|well|now|so|then|and|but|therefore|thus|hence|next|first|also|again|yes|"
    r"wait|hmm+|actually|oh|let me see|let's see)\b[,:.!]*\s*))+", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """One sentence of the reasoning with the equations it states."""

    place: int
    text: str
    equations: tuple[Equation, ...]


class ExtractRewrite:
    """Keeps the sentences that carry the computation."""

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 2
    wording: ClassVar[int] = 1
    needs: ClassVar[frozenset[Need]] = frozenset()

    class Options(BaseOptions):
        """How much may be kept."""

        max_steps: int = Field(12, ge=1, le=100)
        """A chain of more steps than this is rejected: it is no summary."""

    @classmethod
    def samples(cls) -> Sequence[RewriteSample]:
        """Traces and the reasoning that must stand in its place."""
        prompt = asks("Tom has 3 bags of 4 apples and eats 2. How many are left?", "10")
        wordy = ("Okay, let me see. There are 3 * 4 = 12 apples. Maybe I should check 5 + 6 = 11, which is of no use. "
                 "So 12 - 2 = 10 are left.")
        return (
            RewriteSample(prompt, answers(prompt, "10 are left.", wordy),
                          reasoning="There are 3 * 4 = 12 apples.\n12 - 2 = 10 are left."),
            RewriteSample(prompt, answers(prompt, "Some.", wordy), refused="the answer has no number"),
            RewriteSample(prompt, answers(prompt, "7 are left.", wordy), refused="no step computes"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def rewrite(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[tuple[Trace, Fact]]:
        """See Rewrite."""
        for prompt, parent in pairs:
            kept, reason = self._shorten(prompt, parent)
            trace = rewritten(parent, self, kept)
            yield trace, verdict(trace, self, reason or why_rejected(prompt, parent, kept))

    def _shorten(self, prompt: Prompt, parent: Trace) -> tuple[str, str]:
        """(kept text, why it is rejected)."""
        target = final_number(prompt, parent)
        if target is None:
            return "", "the answer has no number to start from"
        steps = find_chain(steps_of(parent.reasoning), target, set(numbers(prompt.question)))
        if not steps:
            return "", "no step computes the answer's number"
        if len(steps) > self.options.max_steps:
            return "", f"the chain is longer than {self.options.max_steps} steps"
        return "\n".join(dict.fromkeys(_worded(step) for step in steps)), ""


def steps_of(reasoning: str) -> list[Sentence]:
    """The sentences of `reasoning` that state equations, in order."""
    steps = []
    for place, sentence in enumerate(_SENTENCE_END.split(reasoning)):
        found = equations(sentence)
        if found:
            steps.append(Sentence(place, sentence.strip(), tuple(found)))
    return steps


def find_chain(steps: list[Sentence], target: Fraction, given: set[Fraction]) -> list[Sentence]:
    """The steps that compute `target`, in reading order; empty when none does.

    Each number is traced to the first step that computes it and stands before its use; numbers of the question
    (`given`) and those that no step computes need none.
    """
    last = next((step for step in steps if _computes(step, target)), None)
    if last is None:
        return []
    chosen: dict[int, Sentence] = {}
    open_numbers: list[tuple[Fraction, Sentence]] = [(target, last)]
    while open_numbers:
        wanted, step = open_numbers.pop()
        if step.place in chosen and wanted != target:
            continue
        chosen[step.place] = step
        for equation in step.equations:
            for operand in equation.operands:
                source = None if operand in given else _source(steps, operand, step)
                if source is not None and source.place not in chosen:
                    open_numbers.append((operand, source))
    return [chosen[place] for place in sorted(chosen)]


def _source(steps: list[Sentence], number: Fraction, use: Sentence) -> Sentence | None:
    return next((step for step in steps if step.place < use.place and _computes(step, number)), None)


def _computes(step: Sentence, number: Fraction) -> bool:
    return any(equation.result == number for equation in step.equations)


def _worded(step: Sentence) -> str:
    """The sentence without its opening filler; only its equations when it talks to itself all the same."""
    text = _OPENING.sub("", step.text).strip()
    if is_monologue(text) or text.endswith("?"):
        return "; ".join(equation.text for equation in step.equations) + "."
    return text[:1].upper() + text[1:]
