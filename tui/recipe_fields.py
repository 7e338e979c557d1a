"""What can be filled in, derived from the schema of recipes and from what a recipe says now: sections, their fields,
and how a value reads as text and back. Pure: knows no widget and no file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from localdistill import key_part
from tui.text import safe

FieldKind = Literal["text", "number", "choice", "switch", "toml"]
Schema = Mapping[str, Any]

@dataclass(frozen=True)
class RecipeField:
    """One value that a recipe may state."""

    key: str
    """Dotted, for example `grade.0.use`."""
    name: str
    help: str
    kind: FieldKind
    default: str
    """How the default reads; empty when the value must be given or nothing stands for it."""
    choices: tuple[str, ...] = ()
    is_required: bool = False
    is_known: bool = True
    """False for a key that the recipe states and no model knows."""
    value: Any = None
    """What the recipe says; None when it says nothing."""

    @property
    def type_name(self) -> str:
        """What is expected, in a word."""
        return {"text": "text", "number": "number", "choice": "a choice", "switch": "yes or no", "toml": "TOML"}[
            self.kind]


@dataclass(frozen=True)
class RecipeSection:
    """One table of a recipe, or the place where a list of tables may get one more."""

    key: str
    """Dotted, empty for the recipe itself."""
    title: str
    help: str
    depth: int = 0
    fields: tuple[RecipeField, ...] = ()
    is_present: bool = True
    is_item: bool = False
    """One of a list of tables."""
    addable: tuple[tuple[str, str], ...] = ()
    """For the place of a list: (member, what it is); the key that picks it is `picked_by`."""
    picked_by: str = ""
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Where no key picks a member but the keys of a table say of what kind it is: those keys, still to be filled in."""
    is_by_name: bool = False
    """One more of these is a table with a name of its own."""

    def empty(self, member: str) -> Mapping[str, Any]:
        """What one more of these states at first."""
        return self.kinds.get(member, {self.picked_by: member})


def sections_of(schema: Schema, data: Mapping[str, Any]) -> list[RecipeSection]:
    """All sections of a recipe that says `data`, in the order of the schema."""
    return list(_Walk(schema).section("", "", schema, data, "recipe", 0))


class _Walk:
    """One walk over the schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._places: Mapping[str, Sequence[str]] = schema["x-places"]
        """Where family members stand: the family, and the key that picks the member."""

    def section(self, key: str, place: str, model: Schema, table: Any, title: str, depth: int, is_item: bool = False,
                ) -> Iterator[RecipeSection]:
        """The section at `key` and everything below it. place: the key, with `*` for every name."""
        present = isinstance(table, Mapping)
        says: Mapping[str, Any] = table if isinstance(table, Mapping) else {}
        family, pick = self._places.get(place, ("", ""))
        properties = {n: p for n, p in model.get("properties", {}).items() if n != "options" or not family}
        family = family if pick in properties else ""
        required = set(model.get("required", ()))
        is_short = place.endswith(".*")
        nested = {n: p for n, p in properties.items() if self._below(p)[1] and (n in says or not is_short)}
        fields = [self._field(key, n, p, says, n in required, family if n == pick else "")
                  for n, p in properties.items() if n not in nested]
        if family:
            own = properties.get(pick, {})
            fields += self._options(key, family, says.get(pick, _default(own)), says, set(properties))
        known = {field.name for field in fields} | set(properties)
        fields += [_unknown(key, n, v) for n, v in says.items() if n not in known]
        yield RecipeSection(key, title, str(model.get("description", "")), depth, tuple(fields), present or not key,
                            is_item)
        for name, sub in nested.items():
            yield from self._nested(f"{key}.{name}".strip("."), f"{place}.{name}".strip("."), name, sub, says,
                                    depth + bool(key))

    def _nested(self, key: str, place: str, name: str, sub: Schema, says: Mapping[str, Any],
                depth: int) -> Iterator[RecipeSection]:
        models, shape = self._below(sub)
        value = says.get(name)
        if shape == "table":
            yield from self.section(key, place, models[0], value, name, depth)
            return
        if shape == "names":
            for own, row in value.items() if isinstance(value, Mapping) else ():
                yield from self.section(f"{key}.{key_part(own)}", f"{place}.*", _model_of(models, row), row,
                                        f"{name} {own}", depth, True)
            place = f"{place}.*"
        else:
            rows = value if isinstance(value, list) else [value] if isinstance(value, Mapping) else []
            for number, row in enumerate(rows):
                yield from self.section(f"{key}.{number}", place, models[0], row, _item_title(name, number, row), depth,
                                        True)
        if place not in self._places:
            return
        family, pick = self._places[place]
        kinds = {_first_key(model): _to_fill_in(model) for model in models} if len(models) > 1 else {}
        ways = _said_of(models) if kinds else self._members(family)
        yield RecipeSection(key, f"+ {name}", str(sub.get("description", "")), depth, is_present=False,
                            addable=tuple(ways), picked_by="" if kinds else pick, kinds=kinds,
                            is_by_name=shape == "names")

    def _members(self, family: str) -> Iterator[tuple[str, str]]:
        for name, options in self._schema["x-members"][family].items():
            yield name, " ".join(str(options.get("description", "")).split())

    def _options(self, key: str, family: str, member: Any, says: Mapping[str, Any], own: set[str]) -> list[RecipeField]:
        model = self._schema["x-members"][family].get(member, {}) if isinstance(member, str) else {}
        required = set(model.get("required", ()))
        return [self._field(key, n, p, says, n in required, "", model.get("$defs", {}))
                for n, p in model.get("properties", {}).items() if n not in own]

    def _field(self, key: str, name: str, sub: Schema, says: Mapping[str, Any], required: bool, family: str = "",
               defs: Schema | None = None) -> RecipeField:
        kind, choices = _kind(sub)
        if family:
            kind, choices = "choice", tuple(self._schema["x-members"][family])
        help_text = " ".join(str(sub.get("description", "")).split())
        default = _default(sub)
        return RecipeField(f"{key}.{name}".strip("."), name, help_text + _limits(sub), kind,
                           "" if default is None else text_of(default), choices, required, True, says.get(name))

    def _below(self, sub: Schema) -> tuple[list[Schema], str]:
        """The models of nested tables, and whether they are one `table`, a `list`, or stand under `names`; no model and
        an empty text for a plain value."""
        for option in (sub, *sub.get("anyOf", ()), *sub.get("allOf", ())):
            names = option.get("additionalProperties")
            for found, shape in ((option, "table"), (option.get("items"), "list"), (names, "names")):
                if isinstance(found, Mapping):
                    refs = [one["$ref"] for one in (found, *found.get("oneOf", ())) if "$ref" in one]
                    if models := [model for ref in refs if (model := self._named(ref)) is not None]:
                        return models, shape
        return [], ""

    def _named(self, ref: str) -> Schema | None:
        found = self._schema.get("$defs", {}).get(ref.rsplit("/", 1)[1])
        return found if isinstance(found, Mapping) and found.get("type") == "object" else None


def _model_of(models: Sequence[Schema], table: Any) -> Schema:
    """The model of a table that may be of several kinds: the one whose first key it states."""
    says = table if isinstance(table, Mapping) else {}
    if len(models) == 1:
        return models[0]
    return next((model for model in models if _first_key(model) in says), models[0])


def _first_key(model: Schema) -> str:
    """The key that makes a table this kind."""
    return str(model["required"][0])


def _said_of(models: Sequence[Schema]) -> Iterator[tuple[str, str]]:
    for model in models:
        yield _first_key(model), " ".join(str(model.get("description", "")).split())


def _to_fill_in(model: Schema) -> dict[str, Any]:
    """What a table of this kind must state, empty."""
    return {key: [] if model["properties"][key].get("type") == "array" else "" for key in model["required"]}


def _item_title(name: str, number: int, row: Any) -> str:
    said = next((row[k] for k in ("name", "use", "format") if isinstance(row, Mapping) and row.get(k)), "")
    return f"{name} {number + 1}" + (f": {said}" if said else "")


def _kind(sub: Schema) -> tuple[FieldKind, tuple[str, ...]]:
    options = [o for o in sub.get("anyOf", (sub,)) if o.get("type") != "null" and "const" not in o]
    only = options[0] if len(options) == 1 else {}
    if "enum" in only:
        return "choice", tuple(map(str, only["enum"]))
    kinds: dict[str, FieldKind] = {"string": "text", "integer": "number", "number": "number", "boolean": "switch"}
    return kinds.get(str(only.get("type")), "toml"), ()


def _default(sub: Schema) -> Any:
    return sub.get("default")


def _limits(sub: Schema) -> str:
    """The range that a number must be in."""
    only = next((o for o in sub.get("anyOf", (sub,)) if o.get("type") != "null"), sub)
    words = [f"{word} {only[name]:g}" for name, word in (
        ("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"),
        ("exclusiveMaximum", "less than")) if name in only]
    return f" ({', '.join(words)})" if words else ""


def _unknown(key: str, name: str, value: Any) -> RecipeField:
    help_text = "No section knows this key; empty it to take it out."
    return RecipeField(f"{key}.{key_part(name)}".strip("."), name, help_text, "toml", "", is_known=False, value=value)


def text_of(value: Any, kind: FieldKind = "text") -> str:
    """`value` as one line to edit. Text that a terminal cannot show, or that would read as quoted, is quoted."""
    if isinstance(value, str):
        plain = kind in ("text", "choice") and safe(value) == value and not set(value) & set("\n\t")
        return value if plain and not value.startswith('"') and value == value.strip() else _quoted(value)
    return _toml(value)


def _quoted(text: str) -> str:
    """A TOML string of visible letters only."""
    body = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + "".join(letter if safe(letter) == letter else f"\\U{ord(letter):08X}" for letter in body) + '"'


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml_key(str(k))} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _toml_key(name: str) -> str:
    return name if name and all(c.isascii() and (c.isalnum() or c in "_-") for c in name) else _quoted(name)


def value_of(text: str, kind: FieldKind) -> Any:
    """The value that somebody typed; None takes it out. What is no value of the kind stays text, so that the check can
    say what is wrong with it."""
    if not text.strip():
        return None
    if kind in ("text", "choice") and not text.startswith('"'):
        return text
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
