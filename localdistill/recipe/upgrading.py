"""Recipes of older shapes, brought into today's: one function on the parsed tables, for files and for what runs
resolved alike. It moves what is said and judges nothing; what it cannot place is left for the check to name."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localdistill.core.registry import Family
from localdistill.recipe.dotted_keys import key_of
from localdistill.rewrites import REWRITES

Table = dict[str, Any]


@dataclass
class Upgraded:
    """A recipe in today's shape."""

    data: Table
    moved: dict[str, str] = field(default_factory=dict)
    """Where a table stands now -> where it stands in the file."""
    older: list[str] = field(default_factory=list)
    """The sections of an older shape that were found, as they are written."""
    problems: list[str] = field(default_factory=list)
    """What has no place in today's shape."""

    def in_file(self, key: str) -> str:
        """The key in the file of what has `key` now."""
        for now, then in sorted(self.moved.items(), key=lambda pair: -len(pair[0])):
            if key == now or key.startswith((f"{now}.", f"{now}[")):
                return then + key[len(now):]
        return key


def teachers_of(data: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    """(label, name, table) of every [teacher]: the short form of an engine and its set."""
    found = data.get("teacher")
    tables = found if isinstance(found, list) else [found]
    several = sum(isinstance(table, dict) for table in tables) > 1
    named = []
    for place, table in enumerate(tables):
        if isinstance(table, dict):
            name = table.get("name") or (f"teacher-{place + 1}" if several else "teacher")
            label = f"teacher[{place}]" if isinstance(found, list) else "teacher"
            named.append((label, name if isinstance(name, str) else "teacher", table))
    return named


def short_set(data: Mapping[str, Any]) -> str:
    """The name of the set that [teacher] stands for; empty where there is none."""
    names = [name for _, name, _ in teachers_of(data)]
    return "" if not names else names[0] if len(names) == 1 else "teacher"


def upgraded(data: Mapping[str, Any]) -> Upgraded:
    """`data` in today's shape; itself where it has that already."""
    made = Upgraded(copy.deepcopy(dict(data)))
    sources = [short_set(data)] if short_set(data) else []
    sources = [*_imported(made), *sources]
    sources = _selected(made, sources)
    _rewritten(made, sources)
    _arms(made, sources)
    return made


def _table_at(data: Table, key: str) -> Table:
    """The table of names at `key`, made where it is missing; one that nobody keeps where something else stands."""
    found = data.setdefault(key, {})
    return found if isinstance(found, dict) else {}


def _imported(made: Upgraded) -> list[str]:
    """`[traces] files = [...]` was the one way to import."""
    traces = made.data.get("traces")
    if traces is None:
        made.data.pop("traces", None)
    own = traces if isinstance(traces, dict) else {}
    if all(isinstance(own.get(key, {}), dict) for key in ("files", "layout", "limit")):
        return []
    made.older.append("[traces] files")
    made.data["traces"] = {"imported": traces}
    made.moved["traces.imported"] = "traces"
    return ["imported"]


def _selected(made: Upgraded, sources: list[str]) -> list[str]:
    """`[select]` held the filters, and could take a saved selection instead of choosing."""
    select = made.data.pop("select", None)
    if not isinstance(select, dict):
        return sources
    made.older.append("[select]")
    made.moved["filter"] = "select.filter"
    if select.get("filter"):
        made.data["filter"] = select["filter"]
    made.problems += [f"select.{key}: unknown key" for key in select if key not in ("name", "from", "filter")]
    if not select.get("from"):
        return sources
    _table_at(made.data, "traces")["selected"] = {"selection": select["from"]}
    made.moved["traces.selected"] = "select"
    return ["selected"]


def _rewritten(made: Upgraded, sources: list[str]) -> None:
    """`[[rewrite]]` worked on the one selection, with an engine of its own or the teacher."""
    tables = made.data.pop("rewrite", None)
    if not tables:
        return
    made.older.append("[[rewrite]]")
    for label, name, table in _named(made, "rewrite", tables, "use"):
        engine, use = table.pop("engine", None), table.pop("use", None)
        _limit(table, use)
        _table_at(made.data, "traces")[name] = {"from": sources, "rewrite": use, **table}
        made.moved[key_of("traces", name)] = label
        made.moved[key_of("traces", name, "rewrite")] = f"{label}.use"
        _writer(made, name, label, use, engine)


def _limit(table: Table, use: Any) -> None:
    """Every rewrite had a limit of tokens; now it is an option of those that write. What runs resolved holds options
    apart."""
    if isinstance(use, str) and use in REWRITES.members and "max_tokens" in table:
        limit = table.pop("max_tokens")
        if "max_tokens" in REWRITES.load(use).Options.model_fields:
            told = table["options"] if isinstance(table.get("options"), dict) else table
            told["max_tokens"] = limit


def _writer(made: Upgraded, name: str, label: str, use: Any, engine: Any) -> None:
    """Name the engine that a rewrite asks, among the engines and in the option that says which."""
    fields = _engine_fields(REWRITES, use)
    if not fields:
        return
    rewritten = made.data["traces"][name]
    options = rewritten["options"] if isinstance(rewritten.get("options"), dict) else rewritten
    if isinstance(engine, dict):
        writer = f"{name}-writer"
        _table_at(made.data, "engine")[writer] = engine
        made.moved[key_of("engine", writer)] = f"{label}.engine"
        options[fields[0]] = writer
    elif not short_set(made.data):
        made.moved[key_of("traces", name, fields[0])] = f"{label}.engine"
    elif short_set(made.data) not in rewritten["from"]:
        options[fields[0]] = teachers_of(made.data)[0][1]


def _engine_fields(family: Family, name: Any) -> list[str]:
    if not isinstance(name, str) or name not in family.members:
        return []
    return list(family.load(name).Options.engine_fields())


def _arms(made: Upgraded, sources: list[str]) -> None:
    """`[[arm]]` was a list, and each trained on the selection, on a rewrite, or on a saved selection of its own."""
    tables = made.data.get("arm")
    if not isinstance(tables, list) or any(isinstance(table, dict) and "parts" in table for table in tables):
        return
    if not tables:
        made.data.pop("arm")
        return
    made.older.append("[[arm]]")
    made.data["arm"] = {}
    for label, name, table in _named(made, "arm", tables, "format"):
        rewrite, selection = table.pop("rewrite", ""), table.pop("selection", "")
        traces: Any = rewrite or sources
        if selection:
            traces = f"{name}-selection"
            _table_at(made.data, "traces")[traces] = {"selection": selection}
        made.data["arm"][name] = {**({"traces": traces} if traces else {}), **table}
        made.moved[key_of("arm", name)] = label
        made.moved[key_of("arm", name, "traces")] = f"{label}.rewrite"


def _named(made: Upgraded, key: str, tables: Any, otherwise: str) -> Iterable[tuple[str, str, Table]]:
    """(label, name, table without its name) of each table of a list; what has no name of its own is a problem."""
    seen: set[str] = set()
    for place, table in enumerate(tables if isinstance(tables, list) else [tables]):
        label = f"{key}[{place}]"
        if not isinstance(table, dict):
            made.problems.append(f"{label}: is no table")
            continue
        rest = {k: value for k, value in table.items() if k != "name"}
        name = table.get("name")
        if not isinstance(name, str):
            made.problems.append(f"{label}.name: " + ("is missing" if name is None else "should be text"))
            name = f"{rest.get(otherwise, key)}-{place + 1}"
        if name in seen:
            made.problems.append(f"two {key}s are named '{name}'")
            continue
        seen.add(name)
        yield label, name, rest
