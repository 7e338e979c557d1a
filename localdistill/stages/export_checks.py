"""What the exporters of a recipe would refuse, told before the training: each is shown what every arm that may be
exported would hand it. Writes nothing and loads no weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from localdistill.exporters.job import ExportPlan
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.recipe import Recipe
from localdistill.recipe.sections import ArmSection
from localdistill.stages.tokenizing import format_of, trained_tags, way_to_think


def export_plans(recipe: Recipe, base: Path, student: Path) -> list[ExportPlan]:
    """What may come to be exported, each once. Raises ModelFileError for a tokenizer that cannot be read, MissingExtra
    without the library for it."""
    assert recipe.export is not None and recipe.student is not None
    tokenizer, found = StudentTokenizer(student), list[ExportPlan]()
    adapter = str(recipe.train.options.get("adapter", "lora")) if recipe.train else "lora"
    for arm in recipe.arms:
        if recipe.export.arm in ("best", arm.name):
            ways = [_thinks(one, base) for one in _trained_before(recipe, arm)]
            tags = {tag for way in ways for tag in trained_tags(tokenizer, way)}
            plan = ExportPlan(student, ways[0], recipe.student.max_tokens, len(tags), adapter)
            found += [] if plan in found else [plan]
    return found or [ExportPlan(student, False, recipe.student.max_tokens)]


def _thinks(arm: ArmSection, base: Path) -> bool | None:
    return way_to_think(format_of(part.member, base) for part in arm.parts)


def _trained_before(recipe: Recipe, arm: ArmSection) -> Iterator[ArmSection]:
    """The arm, and those whose adapter it goes on from."""
    named = {one.name: one for one in recipe.arms}
    while arm.name in named:
        yield named.pop(arm.name)
        if not arm.start or arm.start not in named:
            return
        arm = named[arm.start]
