"""From TOML to a `Recipe`: every problem is reported at once, with its file, its key and the nearest known key.
Nothing here runs code, follows a dotted name or opens a network; importing a family member loads no heavy library."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localdistill.core.errors import LocalDistillError, RecipeError, nearest
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.graders import GRADERS
from localdistill.interchange import LAYOUTS
from localdistill.objectives import OBJECTIVES
from localdistill.recipe.sections import Recipe
from localdistill.rewrites import REWRITES
from localdistill.tasks import TASKS
from localdistill.trainers import TRAINERS

# Where family members stand in a recipe: the path of keys, the family, and the keys of the section itself.
_MEMBERS: tuple[tuple[tuple[str, ...], Family, frozenset[str]], ...] = (
    (("teacher",), ENGINES, frozenset({"name"})),
    (("grade",), GRADERS, frozenset()),
    (("select", "filter"), FILTERS, frozenset()),
    (("rewrite",), REWRITES, frozenset({"name", "engine", "max_tokens"})),
    (("rewrite", "engine"), ENGINES, frozenset()),
    (("train",), TRAINERS, frozenset({"objective", "budget", "seeds"})),
    (("train", "objective"), OBJECTIVES, frozenset()),
    (("arm", "objective"), OBJECTIVES, frozenset()),
    (("evaluate", "task"), TASKS, frozenset()),
    (("export", "to"), EXPORTERS, frozenset()),
)


_OF_THE_STAGE = {"model": "-", "adapter": ""}
"""Options of the engine that runs the students which say which student."""


class _Reader:
    """Reads one recipe and collects its problems."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[str] = []

    def members(self, data: dict[str, Any]) -> None:
        """Move the options of every member into its `options` table, checked."""
        for keys, family, own in _MEMBERS:
            for label, table in _tables(data, keys):
                self._member(label, table, family, own, "use")
        for label, table in _tables(data, ("arm",)):
            own = frozenset({"name", "rewrite", "selection", "objective", "start", "epochs"})
            self._member(label, table, FORMATS, own, "format")
        for keys in (("prompts",), ("traces",)):
            for label, table in _tables(data, keys):
                self._named(f"{label}.layout", table.get("layout", "auto"), LAYOUTS, "auto")
        for label, table in _tables(data, ("evaluate", "engine_options")):
            self._given(label, table, ENGINES.load("transformers").Options, _OF_THE_STAGE)
        self._between_families(data)

    def _between_families(self, data: Mapping[str, Any]) -> None:
        """What one member says of another family, which it cannot check itself."""
        for label, table in _tables(data, ("evaluate", "task")):
            options = _checked(table)
            self._named(f"{label}.grader", options.get("grader", ""), GRADERS, "")
            self._named(f"{label}.layout", options.get("layout", ""), LAYOUTS, "")
        for label, table in _tables(data, ("rewrite",)):
            name = str(table.get("use"))
            asks = name in REWRITES.members and REWRITES.load(name).needs_engine
            if asks and not (table.get("engine") or data.get("teacher")):
                self.problems.append(f"{label}.engine: '{name}' needs an engine that writes: add engine = "
                                     '{ use = "llama_cpp", model = "FILE.gguf" }, or a [teacher]')
        self._served_files(data)

    def _served_files(self, data: Mapping[str, Any]) -> None:
        """A Modelfile serves one of the files that are written before it."""
        written: list[str] = []
        for label, table in _tables(data, ("export", "to")):
            options = _checked(table)
            written += options.get("quants", ())
            if (quant := options.get("quant")) and quant not in written:
                close = nearest(quant, written)
                self.problems.append(f"{label}.quant: no exporter before it writes {quant}{close}")

    def _named(self, key: str, name: Any, family: Family, nothing: str) -> None:
        """A problem when `name` is neither `nothing` nor a member."""
        if name != nothing and str(name) not in family.members:
            close = nearest(str(name), family.members)
            self.problems.append(f"{key}: there is no {family.noun} named '{name}'{close}")

    def _given(self, label: str, table: dict[str, Any], options: Any, of_the_stage: Mapping[str, str]) -> None:
        """Check a table of options of which a stage fills in `of_the_stage` itself. What is not given stays unsaid, so
        that the stage can tell it from what is."""
        for key in of_the_stage.keys() & table.keys():
            self.problems.append(f"{label}.{key}: is filled in by the evaluation itself; take it out")
        rest = {key: value for key, value in table.items() if key not in of_the_stage}
        try:
            checked = options.model_validate({**of_the_stage, **rest}).model_dump(mode="json")
        except ValidationError as error:
            self.add(label, error, set(options.model_fields) - of_the_stage.keys())
        else:
            table.update({key: checked[key] for key in rest})

    def _member(self, label: str, table: dict[str, Any], family: Family, own: frozenset[str], key: str) -> None:
        name = table.get(key, "torch_lora" if family is TRAINERS else None)
        if not isinstance(name, str):
            self.problems.append(f"{label}.{key}: says which {family.noun} to use; known: {', '.join(family.names())}")
            return
        rest = {k: table.pop(k) for k in list(table) if k not in own and k != key}
        try:
            options = family.load(name).Options
            table["options"] = options.model_validate(rest).model_dump(mode="json")
        except ValidationError as error:
            known = set(options.model_fields) | own | {key}
            self.add(label, error, known)
        except LocalDistillError as error:
            self.problems.append(f"{label}.{key}: {error.message} ({error.hint})")

    def add(self, label: str, error: ValidationError, known: set[str] | None = None) -> None:
        """Turn pydantic's errors into lines that name the key and the nearest known one."""
        for item in error.errors():
            path = ".".join(str(p) for p in item["loc"])
            key = f"{label}.{path}".strip(".") if path else label
            if item["type"] == "extra_forbidden":
                close = nearest(str(item["loc"][-1]), known if known is not None else _known_keys(item["loc"][:-1]))
                self.problems.append(f"{key}: unknown key{close}")
            elif item["type"] == "missing":
                self.problems.append(f"{key}: is missing")
            else:
                text = item["msg"].removeprefix("Value error, ")
                self.problems += [f"{key}: {line}" if key else line for line in text.splitlines()]


def _tables(data: Mapping[str, Any], keys: Sequence[str], label: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All tables at a path of keys, arrays of tables opened; anything of another shape is left to the models."""
    if not keys:
        return [(label, data)] if isinstance(data, dict) else []
    value = data.get(keys[0]) if isinstance(data, dict) else None
    here = f"{label}.{keys[0]}".strip(".")
    if isinstance(value, list):
        return [row for i, item in enumerate(value) for row in _tables(item, keys[1:], f"{here}[{i}]")]
    return _tables(value, keys[1:], here) if isinstance(value, dict) else []


def _checked(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options that a member's table was left with by its check; none where that found problems."""
    options = table.get("options")
    return options if isinstance(table.get("use"), str) and isinstance(options, dict) else {}


def _known_keys(path: Sequence[str | int]) -> set[str]:
    """The keys that the model at `path` of a recipe knows, as they are spelled in TOML."""
    model: Any = Recipe
    for key in (p for p in path if isinstance(p, str)):
        field = next((f for n, f in model.model_fields.items() if key in (n, f.alias)), None)
        if field:
            model = next((a for a in _annotations(field.annotation) if hasattr(a, "model_fields")), Recipe)
    return {field.alias or name for name, field in model.model_fields.items()}


def _annotations(annotation: Any) -> list[Any]:
    """`annotation` and everything inside its brackets."""
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(found for arg in inner for found in _annotations(arg))]


def merge_settings(data: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`data` with `--set a.b=c` applied; c is parsed as TOML, or taken as a string. Lists are addressed by index."""
    for setting in settings:
        path, sep, text = setting.partition("=")
        if not sep or not path.strip():
            raise RecipeError(f"--set {setting}: must look like section.key=value", "example: --set train.epochs=2")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        target: Any = data
        keys = path.strip().split(".")
        for place, key in enumerate(keys[:-1], start=1):
            if isinstance(target, list):
                target = target[_index(target, key, setting)]
            else:
                target = target.setdefault(key, {})
            if not isinstance(target, dict | list):
                raise RecipeError(f"--set {setting}: {'.'.join(keys[:place])} is not a table",
                                  "`localdistill recipe schema` prints every key")
        target[_index(target, keys[-1], setting) if isinstance(target, list) else keys[-1]] = value
    return data


def _index(items: list[Any], key: str, setting: str) -> int:
    """The place in a list that `key` names: an index, or the `name` or `use` of a table."""
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    for place, item in enumerate(items):
        if isinstance(item, dict) and key in (item.get("name"), item.get("use")):
            return place
    raise RecipeError(f"--set {setting}: there is no item '{key}'", f"use an index from 0 to {len(items) - 1}")


def parse_recipe(text: str, where: str = "recipe", settings: Sequence[str] = ()) -> Recipe:
    """The recipe that `text` says; RecipeError with every problem, each with `where` and its key."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: not valid TOML: {error}", "see `localdistill recipe new` for an example") from None
    data = merge_settings(data, settings)
    reader = _Reader(where)
    reader.members(data)
    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        reader.add("", error)
    if recipe is None or reader.problems:
        problems = list(dict.fromkeys(reader.problems))
        raise RecipeError(
            "\n".join(f"{where}: {problem}" for problem in problems), "`localdistill recipe schema` prints every key"
        )
    return recipe


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in the file `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"{path}: cannot be read: {error.strerror}", "`localdistill recipe list` shows what ships"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text", "a recipe is a TOML file") from None
    return parse_recipe(text, str(path), settings)


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as JSON; `read_resolved` reads it back."""
    return json.dumps(recipe.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)


def read_resolved(text: str) -> Recipe:
    """The recipe that `dump_recipe` wrote."""
    return Recipe.model_validate(json.loads(text))


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, with the options of every family member under `$defs`."""
    schema = Recipe.model_json_schema()
    families = (ENGINES, GRADERS, FILTERS, REWRITES, FORMATS, TRAINERS, OBJECTIVES, TASKS, EXPORTERS)
    schema["x-members"] = {
        family.noun: {name: family.load(name).Options.model_json_schema() for name in family.names()}
        for family in families
    }
    return schema
