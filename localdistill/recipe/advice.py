"""What a recipe says that can run and is probably not meant: warnings at check time, before anything is spent. Asks
nobody and reads no file of the recipe's."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill.core.records import Message, Request
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.sections import Recipe
from localdistill.recipe.trace_sets import AskedSet


def advice_on(recipe: Recipe) -> list[tuple[str, str]]:
    """Key and text of everything that deserves a warning."""
    asked = [told for one in recipe.asked for told in (*_equal_samples(recipe, one), *_single_try(recipe, one))]
    return [*asked, *_unused_tuning(recipe)]


def _unused_tuning(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """A rate is looked for, and another one is stated."""
    if recipe.train is not None and recipe.tune is not None and not recipe.train.is_tuned:
        yield "train.tune", 'what it finds is told and not used: train.learning_rate = "tuned" trains with it'


def _place(recipe: Recipe, one: AskedSet) -> str:
    """The table that says how a set is asked: [collect] where it may as well be that."""
    return "collect" if len(recipe.asked) == 1 and one.name in (*one.ask, "teacher") else key_of("traces", one.name)


def _equal_samples(recipe: Recipe, one: AskedSet) -> Iterator[tuple[str, str]]:
    """Several samples that would all be one answer, asked and paid for each time."""
    if one.samples < 2:
        return
    sampling = one.sampling()
    request = Request("", (Message("user", "?"),), sampling, 0, one.thinks)
    told: dict[str, list[str]] = {}
    for section in map(recipe.engine, one.ask):
        cls = ENGINES.load(section.use)
        engine: Engine = cls(cls.Options.model_validate(section.options))
        if setting := engine.greedy_by(request):
            told.setdefault(setting, []).append(section.name)
    again = "until_verified asks again for" if one.until_verified else f"samples = {one.samples} asks for"
    table = _place(recipe, one)
    for setting, names in told.items():
        who = "the teacher" if len(names) == len(one.ask) == 1 else " and ".join(names)
        always, mend = _GREEDY[setting]
        place = table if sampling.greedy_by == setting else "the teacher's extra"
        yield f"{table}.{setting}", (
            f"{again} the same answer each time: {who} takes the likeliest token at {always}; set {mend} in {place}, "
            f"or {table}.samples = 1"
        )


_GREEDY = {
    "temperature": ("temperature 0", "temperature = 0.7, for example,"),
    "top_k": ("top_k = 1, whatever the temperature", "top_k = 0"),
    "top_p": ("so small a top_p, whatever the temperature", "top_p = 0.95, for example,"),
}
"""What leaves nothing to chance, and what mends it."""


def _single_try(recipe: Recipe, one: AskedSet) -> Iterator[tuple[str, str]]:
    table = _place(recipe, one)
    if one.until_verified and one.samples == 1:
        yield f"{table}.until_verified", (
            f"asks again up to {table}.samples times, and that is 1: every prompt is asked once; set {table}.samples "
            f"to 4, for example, and a {table}.temperature above 0"
        )
