"""Where members of families stand in a recipe, and its JSON Schema: forms and checks read places from here."""

from __future__ import annotations

from typing import Any

from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.objectives import OBJECTIVES
from localdistill.recipe.sections import Recipe, ShortForm
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS

EACH = "*"
"""Stands for every name in a path of keys."""
FAMILIES = (ENGINES, GRADERS, LABELS, FILTERS, REWRITES, FORMATS, TRAINERS, OBJECTIVES, TASKS, EXPORTERS)
# Where family members stand in a recipe: the path of keys, the family, and the keys of the section itself.
MEMBERS: tuple[tuple[tuple[str, ...], Family, frozenset[str]], ...] = (
    (("teacher",), ENGINES, frozenset({"name"})),
    (("engine", EACH), ENGINES, frozenset()),
    (("traces", EACH, "filter"), FILTERS, frozenset()),
    (("grade",), GRADERS, frozenset()),
    (("label",), LABELS, frozenset()),
    (("filter",), FILTERS, frozenset()),
    (("arm", EACH, "filter"), FILTERS, frozenset()),
    (("arm", EACH, "objective"), OBJECTIVES, frozenset()),
    (("train",), TRAINERS, frozenset({"objective", "budget", "seeds"})),
    (("train", "objective"), OBJECTIVES, frozenset()),
    (("evaluate", "task"), TASKS, frozenset()),
    (("export", "to"), EXPORTERS, frozenset()),
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
    schema["x-places"] = {".".join(path): [family.noun, "use"] for path, family, _ in MEMBERS} | {
        "traces.*": [REWRITES.noun, "rewrite"], "arm.*": [FORMATS.noun, "format"],
        "arm.*.parts": [FORMATS.noun, "format"],
    }
    return schema
