"""What a recipe says that can run and is probably not meant: warnings at check time, before anything is spent. Asks
nobody and reads no file of the recipe's."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill.core.records import Message, Request, Sampling
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine
from localdistill.recipe.sections import Recipe


def advice_on(recipe: Recipe) -> list[tuple[str, str]]:
    """Key and text of everything that deserves a warning."""
    return [*_equal_samples(recipe), *_single_try(recipe)]


def _equal_samples(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Several samples that would all be one answer, asked and paid for each time."""
    collect = recipe.collect
    if collect.samples < 2:
        return
    sampling = Sampling(collect.max_tokens, collect.temperature, collect.top_p, collect.top_k, collect.seed)
    request = Request("", (Message("user", "?"),), sampling, 0, collect.thinks)
    told: dict[str, list[str]] = {}
    for section in recipe.teachers:
        cls = ENGINES.load(section.use)
        engine: Engine = cls(cls.Options.model_validate(section.options))
        if setting := engine.greedy_by(request):
            told.setdefault(setting, []).append(section.name or section.use)
    again = "until_verified asks again for" if collect.until_verified else f"samples = {collect.samples} asks for"
    for setting, names in told.items():
        who = "the teacher" if len(names) == len(recipe.teachers) == 1 else " and ".join(names)
        always, mend = _GREEDY[setting]
        place = "collect" if sampling.greedy_by == setting else "the teacher's extra"
        yield f"collect.{setting}", (
            f"{again} the same answer each time: {who} takes the likeliest token at {always}; set {mend} in {place}, "
            "or collect.samples = 1"
        )


_GREEDY = {
    "temperature": ("temperature 0", "temperature = 0.7, for example,"),
    "top_k": ("top_k = 1, whatever the temperature", "top_k = 0"),
    "top_p": ("so small a top_p, whatever the temperature", "top_p = 0.95, for example,"),
}
"""What leaves nothing to chance, and what mends it."""


def _single_try(recipe: Recipe) -> Iterator[tuple[str, str]]:
    if recipe.collect.until_verified and recipe.collect.samples == 1:
        yield "collect.until_verified", (
            "asks again up to collect.samples times, and that is 1: every prompt is asked once; set collect.samples to "
            "4, for example, and a collect.temperature above 0"
        )
