"""Where the family members of a recipe stand, and in which stage each works: whoever looks at all starts here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.options import Member
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.objectives import OBJECTIVES
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.engine_uses import engine_uses
from localdistill.recipe.schema import choices_of
from localdistill.recipe.sections import Recipe
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS


@dataclass(frozen=True)
class PlacedMember:
    """One member of a recipe."""

    key: str
    """Its table, dotted, list items by number: `grade.0`, `traces.NAME`."""
    stage: str
    """The first one that builds it."""
    family: Family
    member: Member


def members_of(recipe: Recipe) -> Iterator[PlacedMember]:
    """Every member of `recipe`, by stage. An engine that nobody asks is not among them."""
    yield from _engines(recipe)
    yield from _listed(AUGMENTATIONS, "augment", "augment", recipe.augmentations)
    for family, section, members in ((GRADERS, "grade", recipe.graders), (LABELS, "label", recipe.labels)):
        yield from _with_choices(_listed(family, section, "grade", members))
    for key, stages, filters in recipe.filter_lists():
        yield from _listed(FILTERS, key, (*stages, "select")[0], filters)
    for made in recipe.rewrites:
        member = Member(use=made.rewrite, options=made.options)
        yield PlacedMember(key_of("traces", made.name), "rewrite", REWRITES, member)
    yield from _of_training(recipe)
    tasks = recipe.evaluate.tasks if recipe.evaluate else ()
    yield from _with_choices(_listed(TASKS, "evaluate.task", "evaluate", tasks))
    yield from _listed(EXPORTERS, "export.to", "export", recipe.export.to if recipe.export else ())


def _with_choices(members: Iterator[PlacedMember]) -> Iterator[PlacedMember]:
    """Each with the members that its options choose."""
    for placed in members:
        yield placed
        for option, family, chosen in choices_of(placed.family, placed.member):
            yield PlacedMember(f"{placed.key}.{option}", placed.stage, family, chosen)


def _engines(recipe: Recipe) -> Iterator[PlacedMember]:
    told: set[str] = set()
    for use in engine_uses(recipe):
        if use.engine.name not in told:
            told.add(use.engine.name)
            yield PlacedMember(key_of("engine", use.engine.name), use.stage, ENGINES, use.engine)


def _of_training(recipe: Recipe) -> Iterator[PlacedMember]:
    for arm in recipe.arms:
        for number, part in enumerate(arm.parts):
            place = key_of("arm", arm.name, *(("parts", number) if len(arm.parts) > 1 else ()))
            yield PlacedMember(place, "format", FORMATS, part.member)
        if arm.objective is not None:
            yield PlacedMember(key_of("arm", arm.name, "objective"), "format", OBJECTIVES, arm.objective)
    first = "tune" if recipe.tune else "train"
    if recipe.train is not None:
        yield PlacedMember("train", first, TRAINERS, Member(use=recipe.train.use, options=recipe.train.options))
        yield PlacedMember("train.objective", "format", OBJECTIVES, recipe.train.objective)
    if recipe.dev_task is not None:
        yield from _with_choices(iter([PlacedMember("train.dev.task", first, TASKS, recipe.dev_task)]))


def _listed(family: Family, section: str, stage: str, members: tuple[Member, ...]) -> Iterator[PlacedMember]:
    for number, member in enumerate(members):
        yield PlacedMember(f"{section}.{number}", stage, family, member)
