"""What filters of a recipe name: columns that its graders and labels will make, each of them meaning one thing, and
conditions of users that can be worked out. Part of the check before a run; looks at no store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.core.options import Member
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.recipe import Recipe
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.members import PlacedMember
from localdistill.recipe.problems import Problem
from localdistill.recipe.trace_sets import StoredSet
from localdistill.stages.context import build_member
from localdistill.stages.fact_makers import columns_of_several, columns_said, makers_of
from localdistill.store.columns import VIEW, FactColumn, FactView
from localdistill.store.conditions import check_condition


def filter_problems(recipe: Recipe, filters: Sequence[PlacedMember], base: Path) -> Iterator[Problem]:
    """Of `filters`, and of the conditions by which sets are taken from the store."""
    makers = makers_of(recipe)
    said, several = columns_said(makers), columns_of_several(makers)
    for placed in filters:
        yield from _filter(placed, said, several, base)
    every = columns_said((family, Member(use=name)) for family in (GRADERS, LABELS) for name in family.names())
    for one in recipe.sets:
        if isinstance(one, StoredSet):
            try:
                check_condition(one.stored, every)
            except LocalDistillError as error:
                yield Problem(key_of("traces", one.name, "stored"), error.message, hint=error.hint)


def _filter(placed: PlacedMember, said: dict[str, bool], several: set[str], base: Path) -> Iterator[Problem]:
    view = FactView(columns={name: FactColumn(name) for name in said})
    try:
        rule: Filter = build_member(FILTERS, placed.member, base)
        sql = rule.sql()
        view.check(rule.columns)
        if sql is not None and rule.from_user:
            check_condition(sql, said)
    except LocalDistillError as error:
        yield Problem(placed.key, f"filter '{placed.member.use}': {error.message}",
                      hint=_who_says(error) or error.hint)
        return
    named = {*rule.columns, *(view.named_in(sql) if sql is not None else ())} - set(VIEW)
    for column in sorted(named & several):
        yield Problem(placed.key, f"filter '{placed.member.use}': the column '{column}' is said by more than one "
                      "member of this recipe, with different options: what was said last would count",
                      hint="leave one of them to a recipe of its own, or filter by score, which counts the lowest")


def _who_says(error: LocalDistillError) -> str:
    """The section that brings the column which is missing; empty where no member has it."""
    for family, section in ((LABELS, "label"), (GRADERS, "grade")):
        for name in family.names():
            columns = columns_said([(family, Member(use=name))])
            if any(f"column '{column}'" in error.message for column in columns):
                return f'add a [[{section}]] with use = "{name}"'
    return ""
