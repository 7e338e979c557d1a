"""What can be said before anything runs: whether the stages of a recipe can read and export its student, and whether
its filters name columns that there will be. Asks nobody, fetches nothing and loads no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from localdistill.core.errors import MissingExtra, ModelFileError, UsageError
from localdistill.core.stages import STAGES
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import Exporter
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.shipped import resolve_path
from localdistill.recipe import Member, Recipe
from localdistill.recipe.trace_sets import StoredSet
from localdistill.stages.context import build_member
from localdistill.stages.fact_makers import columns_said, makers_of
from localdistill.store.columns import FactColumn, FactView
from localdistill.store.conditions import check_condition

_NEED_STUDENT = frozenset(stage.name for stage in STAGES if stage.uses_student)


def check_student(recipe: Recipe, base: Path, stages: Sequence[str]) -> list[str]:
    """Raise ModelFileError when the student of `recipe` cannot go through `stages`; relative paths start from `base`.
    What could not be looked at is returned in words."""
    if recipe.student is None or not _NEED_STUDENT.intersection(stages):
        return []
    source = recipe.student.model
    if source.startswith("hf://"):
        return [f"{source} is read when the run needs it; whether it can be trained and exported is not known yet"]
    folder = resolve_model(str(resolve_path(source, base)))
    ModelFolder.open(folder)
    if "export" not in stages or recipe.export is None:
        return []
    for member in recipe.export.to:
        exporter: Exporter = build_member(EXPORTERS, member, base)
        for thinks in _ways_to_think(recipe):
            try:
                exporter.check(folder, thinks, recipe.student.max_tokens)
            except MissingExtra as missing:
                return [f"whether the student can be exported was not checked: {missing.message}"]
            except ModelFileError as error:
                raise ModelFileError(f"this student cannot be exported by {member.use}: {error.message}",
                                     error.hint) from error
    return []


def _ways_to_think(recipe: Recipe) -> set[bool]:
    """Whether what may be exported thinks."""
    assert recipe.export is not None
    arms = [arm for arm in recipe.arms if recipe.export.arm in ("best", arm.name)]
    return {FORMATS.load(part.format).thinks for arm in arms for part in arm.parts} or {False}


def check_filters(recipe: Recipe, base: Path) -> None:
    """UsageError when a filter names a column that neither a trace nor a grader or label of `recipe` has, or when the
    condition of a user (of a filter, or of what a set takes from the store) cannot be used."""
    said = columns_said(makers_of(recipe))
    for where, member in _filters_in(recipe):
        rule: Filter = build_member(FILTERS, member, base)
        sql = rule.sql()
        try:
            FactView(columns={name: FactColumn(name) for name in said}).check(rule.columns)
            if sql is not None and rule.from_user:
                check_condition(sql, said)
        except UsageError as error:
            raise UsageError(f"{where}filter '{member.use}': {error.message}", _who_says(error) or error.hint) from None
    every = columns_said((family, Member(use=name)) for family in (GRADERS, LABELS) for name in family.names())
    for one in recipe.sets:
        if isinstance(one, StoredSet):
            try:
                check_condition(one.stored, every)
            except UsageError as error:
                raise UsageError(f"traces.{one.name}.stored: {error.message}", error.hint) from None


def _filters_in(recipe: Recipe) -> Iterator[tuple[str, Member]]:
    """Every filter, with whose it is where it is not the recipe's."""
    yield from (("", member) for member in recipe.filters)
    for one in recipe.sets:
        yield from ((f"set '{one.name}': ", member) for member in one.filters or ())
    for arm in recipe.arms:
        yield from ((f"arm '{arm.name}': ", member) for member in arm.filters or ())


def _who_says(error: UsageError) -> str:
    """The section that brings the column which is missing; empty where no member has it."""
    for family, section in ((LABELS, "label"), (GRADERS, "grade")):
        for name in family.names():
            columns = columns_said([(family, Member(use=name))])
            if any(f"column '{column}'" in error.message for column in columns):
                return f'add a [[{section}]] with use = "{name}"'
    return ""
