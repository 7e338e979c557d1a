"""Decides on one answer by the rule book: what it states as its result, and whether that is what the reference says.
Runs in the judging child, because some rules ask computer algebra.

The kind of the reference decides what is looked for: an option of the question, words, a number, or a formula.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.graders.algebra import are_equal, is_closed_form, read, read_union
from localdistill.graders.choosing import as_asked, choose, is_taken_back, states_doubt
from localdistill.graders.expressions import Stated, expressions_in
from localdistill.graders.extraction import Extracted, last_formula, number_of, other_result, result_of, stated_result
from localdistill.graders.formulas import as_latex, boxed, is_bare, of_other_power, same_base, squeezed
from localdistill.graders.listed_options import labels_in, options_of
from localdistill.graders.numbers import Number, only_number, plain_text
from localdistill.graders.readable import readable, tail_of
from localdistill.graders.reference import result_in
from localdistill.graders.rules import RuleName
from localdistill.graders.stated_choice import stated_choice
from localdistill.graders.texts import are_surely_words, states_words, words_of

_SHOWN_CHARS = 200


@dataclass(frozen=True)
class Ruling:
    """What is said of an answer."""

    score: float | None
    """None where it cannot be judged."""
    rules: tuple[RuleName, ...]
    said: str
    extracted: str = ""

    @property
    def reason(self) -> str:
        """The names of the rules, then words."""
        return f"{', '.join(self.rules)}: {self.said}"[:_SHOWN_CHARS]


@dataclass(frozen=True)
class _Item:
    """What is judged."""

    question: str
    reference: str
    """The bare result."""
    text: str
    """The end of the answer."""
    options: Mapping[str, str]
    told: str
    """Question and whole reference: what they speak of (percent, dozens) a number may be stated in."""
    decimals: int | None = None
    """Decimals to which values must agree; None: as the rules say."""

    def compared(self, equal: bool, extracted: str, *rules: RuleName, aside: str = "") -> Ruling:
        said = f"{'equal to' if equal else 'differs from'} {self.reference}{aside}"
        return Ruling(float(equal), rules, said, extracted)


def judge(question: str, reference: str, answer: str, decimals: int | None = None) -> Ruling:
    """The verdict on one answer. Text only; what computer algebra raises is the caller's. decimals: to which values
    must agree, where that is less than equal."""
    wanted = result_in(reference)
    if not wanted.strip():
        return Ruling(None, (RuleName.BAD_REFERENCE,), "cannot be judged, the reference is empty")
    question, text = readable(question), tail_of(answer)
    if not text:
        return Ruling(0.0, (RuleName.EMPTY,), "the answer is empty")
    item = _Item(question, wanted, text, {label: one for label, one in options_of(question).items()
                                             if not label.isdigit()},
                 f"{question} {reference}", decimals)
    gold = only_number(wanted)
    if gold is None:
        return _by_option(item) or _by_words(item) or _by_formula(item)
    verdict = _by_number(item, gold)
    return verdict if verdict.score else _option_for_text(item) or verdict


def _by_option(item: _Item) -> Ruling | None:
    """Where the reference is a letter of an option; None where it may be the name of something."""
    if not re.fullmatch(r"\W*(?:\\(?:text\w*|mathrm|mathbf)\s*\{)?\W*[A-Z]\W*", item.reference):
        return None
    right = labels_in(item.reference, item.options)
    stated = stated_choice(item.text, item.options) if right else None
    if stated is None or not (stated.labels or item.options):
        return None
    equal = set(stated.labels) == set(right)
    return item.compared(equal, ", ".join(stated.labels) or stated.text, stated.rule, RuleName.SAME_OPTION) \
        if equal or item.options else None


def _option_for_text(item: _Item) -> Ruling | None:
    """Where the answer names an option by its letter and the reference is the option's text."""
    right = labels_in(item.reference, item.options) if item.options else ()
    stated = stated_choice(item.text, item.options) if len(right) == 1 else None
    if stated is None or set(stated.labels) != set(right):
        return None
    return item.compared(True, ", ".join(stated.labels), stated.rule, RuleName.SAME_OPTION)


def _by_words(item: _Item) -> Ruling | None:
    """Where the reference is words; None where it may be a product of names after all."""
    words = words_of(item.reference)
    if words is None:
        return None
    passage = stated_result(item.text) or last_formula(item.text, item.question, any_words=True)
    if passage is None:
        return Ruling(0.0, (RuleName.NO_RESULT,), "the answer states no result")
    if states_doubt(passage.text) and not states_doubt(item.reference):
        return Ruling(0.0, (passage.how, RuleName.NOT_SINGLE), "states no single result", passage.text)
    if is_taken_back(item.text[passage.end:]):
        return Ruling(0.0, (passage.how, RuleName.TAKEN_BACK), "taken back afterwards", passage.text)
    if states_words(passage.text, words, passage.how):
        return item.compared(True, passage.text, passage.how, RuleName.SAME_WORDS)
    if not are_surely_words(item.reference):
        return None
    return _option_for_text(item) or item.compared(False, passage.text, passage.how, RuleName.SAME_WORDS)


def _by_number(item: _Item, gold: Number) -> Ruling:
    """Whether the one result that the answer states is `gold`."""
    passage = result_of(item.text)
    if passage is None:
        return Ruling(0.0, (RuleName.NO_RESULT,), "the answer states no result")
    gold = as_asked(gold, item.told)
    chosen = choose(passage.text, item.text[:passage.start], item.question)
    if chosen is None and passage.how == RuleName.BOXED and not expressions_in(plain_text(passage.text)):
        return _by_value(item, passage.text, passage.how)
    if chosen is None or chosen.is_other:
        return Ruling(0.0, (passage.how, RuleName.NOT_SINGLE), "states no single result",
                       chosen.text if chosen else passage.text)
    found_by = (passage.how, chosen.rule)
    if is_taken_back(item.text[passage.end:], chosen):
        return Ruling(0.0, (*found_by, RuleName.TAKEN_BACK), "taken back afterwards", chosen.text)
    if chosen.number is None:
        return _by_value(item, chosen.text, *found_by)
    return _by_stated_number(item, passage, chosen, chosen.number, gold)


def _by_stated_number(item: _Item, passage: Extracted, chosen: Stated, number: Number, gold: Number) -> Ruling:
    found_by = (passage.how, chosen.rule)
    stated = as_asked(number, item.told)
    other = other_result(item.text, passage)
    again = number_of(other, item.text, item.question) if other else None
    if again is not None and not again.equals(stated):
        return Ruling(0.0, (*found_by, RuleName.TWO_RESULTS), "another result is announced after it",
                       f"{stated.text}, {again.text}")
    if not stated.equals(gold) and (gold.rounds(stated) or stated.rounds(gold) or _agree(item, stated, gold)):
        return item.compared(True, stated.text, *found_by, RuleName.ROUNDED)
    return item.compared(stated.equals(gold), stated.text, *found_by, RuleName.SAME_NUMBER)


def _agree(item: _Item, stated: Number, gold: Number) -> bool:
    return item.decimals is not None and abs(stated.readings[0] - gold.readings[0]) * 2 * 10**item.decimals <= 1


def _by_value(item: _Item, expression: str, *found_by: RuleName) -> Ruling:
    """An expression against a reference that is a number: it must have one value, and no name may stay in it."""
    # math-verify drops what is written below the line, so `4_7` would be 4.
    found = [] if re.search(r"(?<!log)(?<!log )_", expression) else read(boxed(as_latex(expression)))
    if not found or not is_closed_form(found[0]):
        return Ruling(0.0, (*found_by, RuleName.NO_VALUE), f"differs from {item.reference}, it has no single value",
                       expression)
    return _by_algebra(item, read(boxed(as_latex(item.reference))), found, expression, *found_by)


def _by_formula(item: _Item) -> Ruling:
    """A reference that is no number: math-verify reads what the passage, else the last formula, states."""
    reference = as_latex(item.reference)
    gold = read(boxed(reference))
    passage = stated_result(item.text) or last_formula(item.text, item.question)
    if passage is None:
        return Ruling(0.0, (RuleName.NO_RESULT,), "the answer states no result")
    if passage.how == RuleName.ANNOUNCED and states_doubt(passage.text) and not states_doubt(item.reference):
        return Ruling(0.0, (passage.how, RuleName.NOT_SINGLE), "states no single result", passage.text)
    if is_taken_back(item.text[passage.end:]):
        return Ruling(0.0, (passage.how, RuleName.TAKEN_BACK), "taken back afterwards", passage.text)
    if _is_text_only(gold):
        return _by_text(item, passage)
    base = same_base(reference, passage.text)
    if base is not None:
        digits, of, said, said_of = base
        return item.compared(said == digits and said_of in (of, ""), passage.text, passage.how, RuleName.SAME_BASE)
    found = _formula_in(item, passage)
    if not found:
        return _option_for_text(item) or Ruling(
            0.0, (passage.how, RuleName.UNREADABLE), "nothing readable", passage.text)
    verdict = _by_algebra(item, gold, found, passage.text, passage.how)
    return verdict if verdict.score else _option_for_text(item) or verdict


def _by_text(item: _Item, passage: Extracted) -> Ruling:
    """Where no algebra reads the reference: the same text is right, and of another nothing is known."""
    if squeezed(item.reference) == squeezed(passage.text):
        return item.compared(True, passage.text, passage.how, RuleName.SAME_TEXT)
    return Ruling(None, (passage.how, RuleName.BAD_REFERENCE),
                  "cannot be judged, the reference can only be compared as text", passage.text)


def _is_text_only(read_: list[Any]) -> bool:
    return all(isinstance(one, str) for one in read_)


def _formula_in(item: _Item, passage: Extracted) -> list[Any]:
    """What math-verify reads in a passage, else in the expression that it states."""
    text = as_latex(passage.text)
    is_marked = passage.how in (RuleName.BOXED, RuleName.HASH_LINE) or is_bare(text)
    found = read_union(text) or read(boxed(text) if is_marked else text)
    if not found and (chosen := choose(passage.text, item.text[:passage.start], item.question)):
        found = read(boxed(as_latex(chosen.text)))
    return found


def _by_algebra(item: _Item, gold: list[Any], found: list[Any], shown: str, *found_by: RuleName) -> Ruling:
    equal = bool(gold) and are_equal(gold, found, item.decimals) and not of_other_power(item.reference, shown)
    return item.compared(equal, shown, *found_by, RuleName.SAME_FORMULA)
