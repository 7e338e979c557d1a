"""Who a recipe asks, and for what: the one place where engines are found, for consent, money, keys and plans alike.
They are what sets are asked of and what members name by options of the type `EngineName`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.registry import Family
from localdistill.graders import GRADERS
from localdistill.recipe.sections import EngineSection, Recipe, RewrittenSet
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS


@dataclass(frozen=True)
class EngineUse:
    """One engine in one role."""

    stage: str
    role: str
    """What it does, for people: `teacher`, `rewrite NAME`, `grader NAME`."""
    engine: EngineSection


def engine_uses(recipe: Recipe) -> Iterator[EngineUse]:
    """Every engine that a run of `recipe` may ask, in the order of the stages."""
    for one in recipe.asked:
        for name in one.ask:
            yield EngineUse("collect", "teacher" if name == "teacher" else f"teacher {name}", recipe.engine(name))
    for member in recipe.graders:
        yield from _named(recipe, "grade", f"grader {member.use}", GRADERS, member.use, member.options)
    for made in recipe.rewrites:
        for name in writers_of(recipe, made).values():
            yield EngineUse("rewrite", f"rewrite {made.name}", recipe.engine(name))
    for member in recipe.evaluate.tasks if recipe.evaluate else ():
        yield from _named(recipe, "evaluate", f"task {member.use}", TASKS, member.use, member.options)


def writers_of(recipe: Recipe, made: RewrittenSet) -> dict[str, str]:
    """The engine of each option of a rewrite that names one; where it names none, who answered the set first."""
    answered = recipe.engines_of(made.name)
    fields = REWRITES.load(made.rewrite).Options.engine_fields()
    named = {key: str(made.options.get(key) or (answered[0] if answered else "")) for key in fields}
    return {key: name for key, name in named.items() if name}


def _named(recipe: Recipe, stage: str, role: str, family: Family, use: str, options: Mapping[str, Any]
           ) -> Iterator[EngineUse]:
    for key in family.load(use).Options.engine_fields():
        if options.get(key):
            yield EngineUse(stage, role, recipe.engine(str(options[key])))
