"""`--set a.b=c`: single values of a recipe, changed before it is checked. Paths of older shapes lead to where their
value stands now."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from localdistill.core.errors import RecipeError, nearest
from localdistill.recipe.dotted_keys import key_of, key_part, parts_of

BY_NAME = {"engine": "engine", "traces": "set", "arm": "arm"}
"""Tables of named tables, and what each is called."""
_OF_FILES = ("files", "layout", "limit")


def merge_settings(data: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`data`, a recipe of today's shape, with settings applied; c is parsed as TOML, or taken as a string. Items of a
    list are addressed by index, name or member."""
    for setting in settings:
        path, sep, text = setting.partition("=")
        if not sep or not path.strip():
            raise RecipeError(f"--set {setting}: must look like section.key=value", "example: --set train.epochs=2")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        _put(data, _path_now(data, parts_of(path.strip())), value, setting)
    return data


def _put(data: dict[str, Any], keys: Sequence[str], value: Any, setting: str) -> None:
    target: Any = data
    for place, key in enumerate(keys[:-1], start=1):
        if isinstance(target, list):
            target = target[_index(target, key, setting)]
        else:
            if place == 2 and keys[0] in BY_NAME and key not in target:
                what = BY_NAME[keys[0]]
                raise RecipeError(f"--set {setting}: there is no {what} '{key}'{nearest(key, target)}",
                                  f"a whole new one: --set '{keys[0]}.{key_part(key)}={{ ... }}'")
            target = target.setdefault(key, {})
        if not isinstance(target, dict | list):
            raise RecipeError(f"--set {setting}: {key_of(*keys[:place])} is not a table",
                              "`localdistill recipe schema` prints every key")
    if len(keys) == 2 and keys[0] in BY_NAME and not isinstance(value, dict):
        raise RecipeError(f"--set {setting}: {keys[0]}.NAME is a table", f"example: --set {keys[0]}.NAME.KEY=VALUE")
    target[_index(target, keys[-1], setting) if isinstance(target, list) else keys[-1]] = value


def _index(items: list[Any], key: str, setting: str) -> int:
    """The place in a list that `key` names: an index, or the `name` or `use` of a table."""
    if key.isdecimal() and int(key) < len(items):
        return int(key)
    for place, item in enumerate(items):
        if isinstance(item, dict) and key in (item.get("name"), item.get("use")):
            return place
    raise RecipeError(f"--set {setting}: there is no item '{key}'", f"use an index from 0 to {len(items) - 1}")


def _path_now(data: dict[str, Any], keys: list[str]) -> list[str]:
    """Where what stood at `keys` in an older shape stands in `data`; `keys` themselves where they are of today."""
    engines, sets, arms = (_names(data.get(key)) for key in BY_NAME)
    match keys:
        case ["select", "filter", *rest]:
            return ["filter", *rest]
        case ["rewrite", which, *rest] if rest:
            made = [name for name in sets if "rewrite" in _names(data["traces"][name])]
            name = _named(made, which)
            return ["traces", name, *(["rewrite"] if rest == ["use"] else rest)]
        case ["traces", key] if key in _OF_FILES:
            files = [name for name in sets if "files" in _names(data["traces"][name])]
            return ["traces", *files, key] if len(files) == 1 else keys
        case ["arm", which, *rest] if rest:
            return ["arm", _named(arms, which), *(["traces"] if rest == ["rewrite"] else rest)]
        case ["teacher", key] if "teacher" not in data and len(engines) == 1:
            return ["engine", engines[0], key]
        case ["teacher", which, *rest] if "teacher" not in data and engines and rest:
            return ["engine", _named(engines, which), *rest]
    return keys


def _names(table: object) -> list[str]:
    return list(table) if isinstance(table, dict) else []


def _named(names: Iterable[str], which: str) -> str:
    """The name at the index `which`, where it is one; else `which`."""
    known = list(names)
    is_place = which.isdecimal() and which not in known and int(which) < len(known)
    return known[int(which)] if is_place else which
