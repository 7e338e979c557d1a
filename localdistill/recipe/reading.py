"""From TOML to a `Recipe`: every problem is reported at once, with its file, its key and the nearest known key.
Nothing here runs code, follows a dotted name or opens a network; importing a family member loads no heavy library."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.errors import LocalDistillError, RecipeError, nearest
from localdistill.core.explaining import explain
from localdistill.core.registry import Family
from localdistill.core.secrets import is_surely_key, without_keys
from localdistill.engines import ENGINES
from localdistill.graders import GRADERS
from localdistill.interchange import LAYOUTS
from localdistill.recipe.dotted_keys import key_of, key_part, parts_of
from localdistill.recipe.expanding import expanded, measured
from localdistill.recipe.references import StatedNames, reference_problems, unknown
from localdistill.recipe.schema import EACH, MEMBERS, TASK_PATHS, Place
from localdistill.recipe.sections import PART_KEYS, ArmSection, CollectSection, EngineSection, Recipe, ShortForm
from localdistill.recipe.settings import BY_NAME, merge_settings
from localdistill.recipe.trace_sets import SET_KINDS, RewrittenSet, SetSection
from localdistill.recipe.upgrading import Upgraded, upgraded
from localdistill.rewrites import REWRITES
from localdistill.trainers import AUTO, TRAINERS, usual_trainer

Table = dict[str, Any]
_OF_THE_STAGE = {"model": "-", "adapter": "", "held": ""}
"""Options of the engine that runs the students which say which student."""
_ONE_KIND = ("says where its traces come from: ask = ENGINE, files = [...], stored = CONDITION, selection = NAME, or "
             "from = SET with rewrite")
_BY_NAME_ONLY = (": a recipe is copied into every run, so take it out, and have it replaced where others may have read "
                 "it; api_key_env names the variable that holds it, and `localdistill keys set` stores it")
_ALL_KEYS = "`localdistill recipe schema` prints every key"


def _serving(data: Mapping[str, Any]) -> str:
    """The engine that runs the students of the recipe: its trainer's."""
    train = data.get("train")
    name = train.get("use") if isinstance(train, dict) else None
    known = isinstance(name, str) and name in TRAINERS.members
    engine: str = TRAINERS.load(str(name) if known else usual_trainer()).engine
    return engine


class _Reader:
    """Reads one recipe of today's shape and collects its problems, each with its key."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self._with_engines: list[tuple[str, Family, str, Mapping[str, Any]]] = []
        """Label, family, name and options of every member that names engines."""

    def read(self, data: Table) -> Recipe:
        """The recipe; what is right of it when there are problems."""
        sections = {key for key, value in data.items() if value or (isinstance(value, dict) and key not in BY_NAME)}
        for key in BY_NAME:
            if not isinstance(data.get(key, {}), dict):
                self._say(key, f"has one table for each name: [{key}.NAME]")
                data.pop(key)
        teachers = data.get("teacher", {})
        if not isinstance(teachers, dict | list) or any(not isinstance(one, dict) for one in teachers if
                                                        isinstance(teachers, list)):
            self._say("teacher", "is no table")
        data = measured(data)
        self._members(data)
        # What [collect] says is a default of every asked set: where it is wrong it is told once, not at each of them.
        if "collect" in data and self._valid("collect", CollectSection, data["collect"]) is None:
            data = {**data, "collect": {}}
        data, clashes = expanded(data)
        self.problems += clashes
        names = {key: list(data.get(key, ())) for key in BY_NAME}
        engines = [made for name, table in data.pop("engine", {}).items()
                   if (made := self._valid(key_of("engine", name), EngineSection, {**table, "name": name}
                                           if isinstance(table, dict) else table))]
        sets = list(self._sets(data.pop("traces", {})))
        arms = list(self._arms(data.pop("arm", {}), names["traces"], sets))
        recipe = self._recipe({**data, "engine": engines, "traces": sets, "arm": arms})
        stated = StatedNames(sections, names["engine"], names["traces"], names["arm"])
        self.problems += reference_problems(recipe, stated)
        self._engine_names(recipe, names["engine"])
        return recipe

    def _recipe(self, data: Table) -> Recipe:
        """The recipe without its sections that are wrong, each of which is a problem."""
        try:
            return Recipe.model_validate(data)
        except ValidationError as error:
            self.add("", error)
            wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        return Recipe.model_validate({"name": "recipe", **{k: v for k, v in data.items() if k not in wrong}})

    # ---- members

    def _members(self, data: Table) -> None:
        """Move the options of every member into its `options` table, checked."""
        for place in MEMBERS:
            for label, table in _tables(data, place.path):
                if place.holds(table):
                    self._member(label, table, place)
        for keys in (("prompts",), ("traces", EACH)):
            for label, table in _tables(data, keys):
                self._named(f"{label}.layout", table.get("layout", "auto"), LAYOUTS, "auto")
        for label, table in _tables(data, ("evaluate", "engine_options")):
            self._given(label, table, ENGINES.load(_serving(data)).Options, _OF_THE_STAGE)
        for path in (("grade",), *((*path, "grader") for path in TASK_PATHS)):
            for label, table in _tables(data, path):
                for number, name in enumerate(_checked(table).get("of", ())):
                    if isinstance(name, str):
                        self._grader_by_name(f"{label}.of[{number}]", name)
        for label, table in (found for path in TASK_PATHS for found in _tables(data, path)):
            options = _checked(table)
            if isinstance(grader := options.get("grader", ""), str):
                self._grader_by_name(f"{label}.grader", grader)
            self._named(f"{label}.layout", options.get("layout", ""), LAYOUTS, "")
        self._served_files(data)

    def _served_files(self, data: Mapping[str, Any]) -> None:
        """A Modelfile serves one of the files that are written before it."""
        written: list[str] = []
        for label, table in _tables(data, ("export", "to")):
            options = _checked(table)
            written += options.get("quants", ())
            if (quant := options.get("quant")) and quant not in written:
                self._say(f"{label}.quant", f"no exporter before it writes {quant}{nearest(quant, written)}")

    def _named(self, key: str, name: Any, family: Family, nothing: str) -> None:
        """A problem when `name` is neither `nothing` nor a member."""
        if name != nothing and str(name) not in family.members:
            self._say(key, unknown(family.noun, str(name), family.members))

    def _grader_by_name(self, key: str, name: str) -> None:
        """A grader without options of its own: what it cannot do without is missed here."""
        self._named(key, name, GRADERS, "")
        if name in GRADERS.members:
            self._member(key, {"use": name}, Place((), GRADERS))

    def _given(self, label: str, table: Table, options: Any, of_the_stage: Mapping[str, str]) -> None:
        """Check a table of options of which a stage fills in `of_the_stage` itself. What is not given stays unsaid, so
        that the stage can tell it from what is."""
        for key in of_the_stage.keys() & table.keys():
            self._say(f"{label}.{key}", "is filled in by the evaluation itself; take it out")
        rest = {key: value for key, value in table.items() if key not in of_the_stage}
        filled_in = {key: value for key, value in of_the_stage.items() if key in options.model_fields}
        try:
            checked = options.model_validate({**filled_in, **rest}).model_dump(mode="json")
        except ValidationError as error:
            self.add(label, error, set(options.model_fields) - of_the_stage.keys())
        else:
            table.update({key: checked[key] for key in rest})

    def _member(self, label: str, table: Table, place: Place) -> None:
        family, own, key = place.family, place.own, place.pick
        if family is TRAINERS and table.get(key, AUTO) == AUTO:
            table[key] = usual_trainer(table)  # kept with the run, which a resume elsewhere goes on with
        name = table.get(key)
        if not isinstance(name, str):
            self._say(f"{label}.{key}", f"says which {family.noun} to use; known: {', '.join(family.names())}")
            return
        rest = {k: table.pop(k) for k in list(table) if k not in own and k != key}
        try:
            options = family.load(name).Options
            table["options"] = options.model_validate(rest).model_dump(mode="json")
            self._with_engines.append((label, family, name, table["options"]))
        except ValidationError as error:
            self.add(label, error, set(options.model_fields) | own | {key}, options.member_fields())
        except LocalDistillError as error:
            self._say(f"{label}.{key}", f"{error.message} ({error.hint})")

    # ---- named tables

    def _sets(self, tables: Mapping[str, Any]) -> Iterator[SetSection]:
        for name, table in tables.items():
            label = key_of("traces", name)
            if not isinstance(table, dict):
                self._say(label, "is no table")
                continue
            kinds = [key for key in SET_KINDS if key in table]
            if len(kinds) != 1:
                self._say(label, f"says where its traces come from in more than one way: {' and '.join(kinds)}" if kinds
                          else _ONE_KIND + _close_to_a_kind(table))
            elif made := self._valid(label, SET_KINDS[kinds[0]], {**table, "name": name}):
                yield made

    def _arms(self, tables: Mapping[str, Any], names: Sequence[str], sets: Sequence[SetSection]
              ) -> Iterator[ArmSection]:
        """The arms; where there is one set to train on, they need not name it."""
        rewritten = {one.name for one in sets if isinstance(one, RewrittenSet)}
        originals = [name for name in names if name not in rewritten]
        for name, table in tables.items():
            if not isinstance(table, dict):
                self._say(key_of("arm", name), "is no table")
                continue
            parts = [part for _, part in _tables(table, ("parts",))] if "parts" in table else [table]
            for part in parts:
                if "traces" not in part and len(originals) == 1:
                    part["traces"] = originals[0]
            if not names:
                continue
            if any("traces" not in part for part in parts):
                self._say(key_of("arm", name, "traces"), f"says which set it trains on: {', '.join(names)}")
            elif made := self._valid(key_of("arm", name), ArmSection, {**table, "name": name}):
                yield made

    def _valid(self, label: str, model: Any, table: Any) -> Any:
        """The section in `table`; None, and its problems, where something is wrong with it."""
        if self._is_wrong(label):
            return None
        try:
            return model.model_validate(table)
        except ValidationError as error:
            known = {field.alias or name for name, field in model.model_fields.items()}
            self.add(label, error, known - {"name", "options"} | (PART_KEYS if model is ArmSection else set()))
            return None

    def _is_wrong(self, label: str) -> bool:
        """Something in the table at `label` is known to be wrong."""
        return any(key == label or key.startswith((f"{label}.", f"{label}[")) for key, _ in self.problems)

    def _engine_names(self, recipe: Recipe, engines: Sequence[str]) -> None:
        """Every engine that a member names is there, and every member that needs one has one."""
        for label, family, name, options in self._with_engines:
            for key in family.load(name).Options.engine_fields():
                if options[key] and options[key] not in engines:
                    self._say(f"{label}.{key}", unknown("engine", options[key], engines))
                elif not options[key] and not self._has_default(recipe, family, label, engines):
                    self._say(f"{label}.{key}", f"'{name}' needs an engine: name one of [engine]"
                              + (f" ({', '.join(engines)})" if engines else ", which has none yet"))

    def _has_default(self, recipe: Recipe, family: Family, label: str, engines: Sequence[str]) -> bool:
        """A rewrite may ask whoever answered its set, an augmentation the first engine that there is."""
        if family is not REWRITES:
            return family is AUGMENTATIONS and bool(engines)
        name = parts_of(label)[-1]
        sources = _all_sources(recipe, name)
        is_whole = all(any(one.name == source for one in recipe.sets) for source in sources)
        # A circle is told at one of its sets, and who answered it cannot be asked for at any.
        is_wrong = any(self._is_wrong(key_of("traces", source)) for source in sources)
        return not is_whole or is_wrong or bool(recipe.engines_of(name))

    # ---- problems

    def _say(self, key: str, text: str) -> None:
        self.problems.append((key, text))

    def add(self, label: str, error: ValidationError, known: set[str] | None = None,
            members: Mapping[str, str] | None = None) -> None:
        """Turn pydantic's errors into problems that name the key and the nearest known one. members: fields in which a
        member of a family stands."""
        for item in error.errors():
            path = key_of(*item["loc"])
            key = f"{label}.{path}".strip(".") if path else label
            if members and item["loc"] and (field := str(item["loc"][0])) in members:
                if not self._is_wrong(place := f"{label}.{field}"):
                    self._say(place, f"is the name of a {members[field]}, or a table with use and its options")
            elif item["type"] == "extra_forbidden":
                close = nearest(str(item["loc"][-1]), known if known is not None else _known_keys(item["loc"][:-1]))
                self._say(key, f"unknown key{close}")
            elif item["type"] == "missing":
                self._say(key, "is missing")
            else:
                self._say(key, item["msg"].removeprefix("Value error, "))


def _close_to_a_kind(table: Table) -> str:
    """What of a table was probably meant to say what kind of set it is."""
    return next((f" ('{key}': unknown key{text})" for key in table if (text := nearest(key, SET_KINDS))), "")


def _all_sources(recipe: Recipe, name: str) -> list[str]:
    """`name` and every set that it is made from, directly or not."""
    found = [name]
    for source in found:
        made = next((one for one in recipe.rewrites if one.name == source), None)
        found += [one for one in (made.from_ if made else ()) if one not in found]
    return found


def _tables(data: Any, keys: Sequence[str], label: str = "") -> list[tuple[str, Table]]:
    """All tables at a path of keys, arrays of tables and tables of names opened; anything of another shape is left to
    the models."""
    if isinstance(data, list):
        return [row for i, item in enumerate(data) for row in _tables(item, keys, f"{label}[{i}]")]
    if not isinstance(data, dict):
        return []
    if not keys:
        return [(label, data)]
    first, *rest = keys
    below = data.items() if first == EACH else [(first, data.get(first))]
    return [row for name, value in below for row in _tables(value, rest, f"{label}.{key_part(name)}".strip("."))]


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
    fields = {**model.model_fields, **(ShortForm.model_fields if model is Recipe else {})}
    return {field.alias or name for name, field in fields.items()}


def _annotations(annotation: Any) -> list[Any]:
    """`annotation` and everything inside its brackets."""
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(found for arg in inner for found in _annotations(arg))]


def parse_recipe(text: str, where: str = "recipe", settings: Sequence[str] = ()) -> Recipe:
    """The recipe that `text` says; RecipeError with every problem, each with `where` and its key."""
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        is_twice = any(word in str(error) for word in ("overwrite", "twice"))
        what = f"two sets, engines, arms or keys have one name: {error}" if is_twice else str(error)
        hint = "give each a name of its own" if is_twice else "see `localdistill recipe new` for an example"
        raise RecipeError(f"{where}: not valid TOML: {what}", hint) from None
    except (RecursionError, ValueError) as error:  # nested without end, a number of thousands of digits
        raise RecipeError(f"{where}: {explain(error).message}", explain(error).hint) from None
    now = upgraded(stated)
    reader, merged = _Reader(), merge_settings(now.data, settings)
    reader.problems += _keys_in(merged)
    recipe = reader.read(merged)
    problems = _in_file(now, reader.problems) or list(_lines_with_keys(text))
    if problems:
        raise RecipeError("\n".join(f"{where}: {problem}" for problem in problems), _ALL_KEYS)
    return recipe


def _keys_in(value: Any, *keys: str | int) -> list[tuple[str, str]]:
    """Values of a recipe that are API keys: a recipe is copied into every run, and names variables only."""
    if isinstance(value, dict):
        return [row for key, below in value.items() for row in _keys_in(below, *keys, key)]
    if isinstance(value, list):
        return [row for place, below in enumerate(value) for row in _keys_in(below, *keys, place)]
    return [(key_of(*keys), f"is an API key{_BY_NAME_ONLY}")] if isinstance(value, str) and is_surely_key(value) else []


def _lines_with_keys(text: str) -> Iterator[str]:
    """What is to be said of other places of a recipe that hold a key: comments, names, parts of longer texts."""
    for number, line in enumerate(text.splitlines(), start=1):
        if without_keys(line) != line:
            yield f"line {number} holds an API key{_BY_NAME_ONLY}"


def _in_file(now: Upgraded, problems: Sequence[tuple[str, str]]) -> list[str]:
    """The problems, each once, at the keys that the file has."""
    told = [f"{now.in_file(key)}: {text}" if key else text for key, text in problems]
    return list(dict.fromkeys([*now.problems, *told]))


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
    """The recipe that `dump_recipe` wrote, of whatever version."""
    data, _ = expanded(upgraded(json.loads(text)).data)
    return Recipe.model_validate(data)
