"""Where members of families stand in a recipe, and its JSON Schema: forms and checks read places from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.options import Member, Options
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.objectives import OBJECTIVES
from localdistill.recipe.sections import PART_KEYS, Recipe, ShortForm
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS

EACH = "*"
"""Stands for every name in a path of keys."""
TASK_PATHS = (("train", "dev", "task"), ("evaluate", "task"))
"""Where benchmarks stand."""
FAMILIES = (AUGMENTATIONS, ENGINES, GRADERS, LABELS, FILTERS, REWRITES, FORMATS, TRAINERS, OBJECTIVES, TASKS, EXPORTERS)


class Place(NamedTuple):
    """Tables of a recipe, as TOML has it, in which members of one family stand."""

    path: tuple[str, ...]
    family: Family
    own: frozenset[str] = frozenset()
    """Keys of the section itself; all others are the member's options."""
    pick: str = "use"
    """The key that picks the member."""
    has: str = ""
    """Only tables with this key hold a member."""
    lacks: str = ""
    """Tables with this key hold none themselves."""

    def holds(self, table: Mapping[str, Any]) -> bool:
        """Whether a member stands in this table."""
        return (not self.has or self.has in table) and (not self.lacks or self.lacks not in table)


Choice = tuple[str, Family, Member]
"""A member that options choose: the option, dotted where it is a list (`of.0`), its family, and itself."""


def chosen_by(options: type[Options], said: Mapping[str, Any]) -> Iterator[Choice]:
    """The members that options choose, as they are said."""
    families = {one.noun: one for one in FAMILIES}
    for field, noun in options.member_fields().items():
        value = said.get(field)
        several = isinstance(value, list | tuple)
        for place, chosen in enumerate(value if several and value else [value] if value else ()):
            one = {"use": chosen} if isinstance(chosen, str) else chosen
            yield f"{field}.{place}" if several else field, families[noun], Member.model_validate(one)


def choices_of(family: Family, member: Member) -> Iterator[Choice]:
    """The members that the options of `member` choose, and those that they choose in turn."""
    for key, other, chosen in chosen_by(family.load(member.use).Options, member.options):
        yield key, other, chosen
        for inner, of, one in choices_of(other, chosen):
            yield f"{key}.{inner}", of, one


MEMBERS = (
    Place(("teacher",), ENGINES, frozenset({"name"})),
    Place(("engine", EACH), ENGINES),
    Place(("traces", EACH, "filter"), FILTERS),
    Place(("augment",), AUGMENTATIONS),
    Place(("grade", "of"), GRADERS),
    Place(("grade",), GRADERS),
    Place(("label",), LABELS),
    Place(("filter",), FILTERS),
    Place(("arm", EACH, "filter"), FILTERS),
    Place(("arm", EACH, "objective"), OBJECTIVES),
    Place(("train",), TRAINERS, frozenset({"objective", "budget", "seeds", "looks", "dev", "tune"})),
    Place(("train", "objective"), OBJECTIVES),
    *(place for path in TASK_PATHS for place in (
        Place((*path, "grader", "of"), GRADERS), Place((*path, "grader"), GRADERS), Place(path, TASKS))),
    Place(("export", "to"), EXPORTERS),
    Place(("traces", EACH), REWRITES, frozenset({"from", "filter"}), "rewrite", has="from"),
    Place(("arm", EACH), FORMATS, frozenset({"filter", "objective", "start", "epochs"}) | PART_KEYS - {"format"},
          "format", lacks="parts"),
    Place(("arm", EACH, "parts"), FORMATS, frozenset({"traces", "share", "weight"}), "format"),
)


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe as TOML has it, with the options of every family member under `x-members`, and under
    `x-places` where members stand: path (`*` for a name) -> family and the key that picks the member."""
    schema, short = Recipe.model_json_schema(), ShortForm.model_json_schema()
    properties = {}
    for name, value in schema["properties"].items():
        properties[name] = value
        if name == "prompts":
            properties |= short["properties"]
    schema["properties"] = properties
    schema["$defs"] = {**short["$defs"], **schema["$defs"]}
    schema["x-members"] = {
        family.noun: {name: family.load(name).Options.model_json_schema() for name in family.names()}
        for family in FAMILIES
    }
    schema["x-places"] = {".".join(place.path): [place.family.noun, place.pick] for place in MEMBERS}
    return schema
