"""What of the hub a recipe names: models, wherever it does, and the same recipe with each of them in one revision; and
the files that its benchmarks are read from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.hub.names import DATASETS, in_hub
from localdistill.recipe.reading import dump_recipe, read_resolved
from localdistill.recipe.sections import Recipe
from localdistill.tasks import TASKS

_TOKENIZERS = frozenset({"tokenizer"})
"""Options that name a model for its tokenizer alone."""


@dataclass(frozen=True)
class HubUse:
    """A model of the hub in a recipe."""

    source: str
    """`hf://organisation/name[@revision]`"""
    weights: bool
    """Whether they are needed, beside tokenizer and template."""


def hub_uses(recipe: Recipe, student: bool = True) -> list[HubUse]:
    """Every one of them once, the student first. student: count it among them."""
    own = recipe.student.model if recipe.student is not None else ""
    found: dict[str, bool] = {own: True} if student and in_hub(own) else {}
    for key, value in _strings(json.loads(dump_recipe(recipe))):
        if in_hub(value) and (value != own or student):
            found[value] = found.get(value, False) or key not in _TOKENIZERS
    return [HubUse(source, weights) for source, weights in found.items()]


def hub_data(recipe: Recipe) -> list[str]:
    """The addresses of the files in data sets of the hub that its benchmarks are read from, each once."""
    tasks = (*(recipe.evaluate.tasks if recipe.evaluate else ()), *([recipe.dev_task] if recipe.dev_task else ()))
    named = (str(task.options.get(key) or "") for task in tasks for key in TASKS.load(task.use).Options.file_fields())
    return list(dict.fromkeys(name for name in named if name.startswith(DATASETS)))


def with_models(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """`recipe` with every name of a model among `names` replaced."""
    if not names:
        return recipe
    return read_resolved(json.dumps(_replaced(json.loads(dump_recipe(recipe)), names)))


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    for name, one in value.items() if isinstance(value, dict) else [(key, one) for one in value] if isinstance(
            value, list) else ():
        yield from _strings(one, name)


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value
