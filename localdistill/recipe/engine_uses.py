"""Who a recipe asks, and for what: the one place where engines are found, for consent, money, keys and plans alike.
They are what sets are asked of and what members name by options of the type `EngineName`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.capabilities import Capability, needed_by
from localdistill.core.options import Member, Options
from localdistill.core.records import Request
from localdistill.core.registry import Family
from localdistill.filters import FILTERS
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.recipe.schema import choices_of
from localdistill.recipe.sections import EngineSection, Recipe
from localdistill.recipe.trace_sets import RewrittenSet
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS


@dataclass(frozen=True)
class EngineUse:
    """One engine in one role."""

    stage: str
    role: str
    """What it does, for people: `teacher`, `rewrite NAME`, `grader NAME`, `filter NAME`."""
    engine: EngineSection
    trace_set: str = ""
    """The rewritten set that it writes; empty for what looks at every set."""
    must: frozenset[Capability] = frozenset({"generate"})
    """What it is asked to do."""
    task: int | None = None
    """The place of the benchmark whose replies it judges; None for what looks at traces."""


def engine_uses(recipe: Recipe) -> Iterator[EngineUse]:
    """Every engine that a run of `recipe` may ask, in the order of the stages."""
    for member in recipe.augmentations:
        fields = AUGMENTATIONS.load(member.use).Options.engine_fields()
        for key, name in augmenters_of(recipe, member).items():
            yield EngineUse("augment", f"augmentation {member.use}", recipe.engine(name), must=frozenset({fields[key]}))
    for one in recipe.asked:
        request = Request("", (), one.sampling(), 0, one.thinks, one.top_logprobs)
        for name in one.ask:
            yield EngineUse("collect", "teacher" if name == "teacher" else f"teacher {name}", recipe.engine(name),
                            must=needed_by(request))
    verified = recipe.graders if any(one.until_verified for one in recipe.asked) else ()
    filters = tuple((stage, FILTERS, own) for _, stages, own in recipe.filter_lists() for stage in stages)
    for stage, family, members in (("collect", GRADERS, verified), ("grade", GRADERS, recipe.graders),
                                   ("grade", LABELS, recipe.labels), *_of_rewritten(recipe), *filters):
        for member in members:
            yield from _named(recipe, stage, family, member)
    for made in recipe.rewrites:
        fields = REWRITES.load(made.rewrite).Options.engine_fields()
        for key, name in writers_of(recipe, made).items():
            yield EngineUse("rewrite", f"rewrite {made.name}", recipe.engine(name), made.name,
                            frozenset({fields[key]}))
    for stage, section in (("evaluate", recipe.evaluate), ("export", recipe.export)):
        for place, member in enumerate(recipe.evaluate.tasks if recipe.evaluate and section else ()):
            for use in _named(recipe, stage, TASKS, member):
                of = "" if use.role == f"{TASKS.noun} {member.use}" else f" of the task {member.use}"
                yield replace(use, role=use.role + of, task=place)


def _of_rewritten(recipe: Recipe) -> Iterator[tuple[str, Family, tuple[Member, ...]]]:
    """Who says something of rewritten traces, where there are any: what is said of prompts is known by then."""
    for family, members in ((GRADERS, recipe.graders), (LABELS, recipe.labels)):
        if recipe.rewrites:
            yield "rewrite", family, tuple(one for one in members if family.load(one.use).about == "trace")


def writers_of(recipe: Recipe, made: RewrittenSet) -> dict[str, str]:
    """The engine of each option of a rewrite that names one; where it names none, who answered the set first."""
    answered = recipe.engines_of(made.name)
    fields = REWRITES.load(made.rewrite).Options.engine_fields()
    named = {key: str(made.options.get(key) or (answered[0] if answered else "")) for key in fields}
    return {key: name for key, name in named.items() if name}


def augmenters_of(recipe: Recipe, member: Member) -> dict[str, str]:
    """The engine of each option of an augmentation that names one; where it names none, the first that a set is asked
    of, else the first that there is."""
    first = next((one.name for one in (*recipe.asked_engines, *recipe.engines)), "")
    fields = AUGMENTATIONS.load(member.use).Options.engine_fields()
    named = {key: str(member.options.get(key) or first) for key in fields}
    return {key: name for key, name in named.items() if name}


def _named(recipe: Recipe, stage: str, family: Family, member: Member) -> Iterator[EngineUse]:
    """The engines that a member names, and those that the members name which it chooses."""
    for own, one in ((family, member), *((other, chosen) for _, other, chosen in choices_of(family, member))):
        options: type[Options] = own.load(one.use).Options
        for key, must in options.engine_fields().items():
            if name := one.options.get(key):
                yield EngineUse(stage, f"{own.noun} {one.use}", recipe.engine(str(name)), must=frozenset({must}))

