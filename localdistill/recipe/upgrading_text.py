"""The text of an older recipe in today's shape, with its comments and its order: header by header, line by line. What
came out must say the same as what went in; where it does not, the tables alone are written, and that is said."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from localdistill.recipe.dotted_keys import key_part, parts_of
from localdistill.recipe.upgrading import upgraded

_HEADER = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.\" -]+?)\s*\]{1,2}\s*(#.*)?")
_SAYS = re.compile(r"(\s*)([A-Za-z0-9_-]+)(\s*=\s*)(.*)", re.DOTALL)


@dataclass(frozen=True)
class UpgradedText:
    """A recipe's text in today's shape."""

    text: str
    older: tuple[str, ...]
    """The sections of an older shape that it had; empty where nothing was to be done."""
    keeps_comments: bool = True


@dataclass
class _Block:
    """A header with the lines below it; the first one has none."""

    path: tuple[str, ...] = ()
    comment: str = ""
    header: str = ""
    lines: list[str] = field(default_factory=list)

    def value(self, key: str) -> Any:
        """What `key` says here; None when it says nothing that one line holds."""
        for line in self.lines:
            if _key_of(line) == key:
                try:
                    return tomllib.loads(line)[key]
                except tomllib.TOMLDecodeError:
                    return None
        return None


def upgraded_text(text: str) -> UpgradedText:
    """`text` in today's shape; TOMLDecodeError where it is no TOML."""
    now = upgraded(tomllib.loads(text))
    if not now.older:
        return UpgradedText(text, ())
    made = "".join(_rewritten(list(_blocks(text)), now.data))
    if _says(made) == _plain(now.data):
        return UpgradedText(made, tuple(now.older))
    import tomlkit

    return UpgradedText(tomlkit.dumps(now.data), tuple(now.older), keeps_comments=False)


def _says(text: str) -> Any:
    """What a text of today's shape says; None for one that is none."""
    try:
        found = upgraded(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return None
    return None if found.older else _plain(found.data)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """`data` in one way, of several that mean the same: names in lists, and the only set said by every arm."""
    sets = data.get("traces", {}) if isinstance(data.get("traces"), dict) else {}
    arms = data.get("arm", {}) if isinstance(data.get("arm"), dict) else {}
    for table in (*sets.values(), *arms.values()):
        for key in ("from", "traces"):
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = [table[key]]
    originals = _originals(data)
    if len(originals) == 1:
        for table in arms.values():
            if isinstance(table, dict):
                table.setdefault("traces", originals)
    return data


def _originals(data: dict[str, Any]) -> list[str]:
    from localdistill.recipe.expanding import expanded

    sets = expanded(data)[0].get("traces") or {}
    return [name for name, table in sets.items() if not (isinstance(table, dict) and "from" in table)]


def _blocks(text: str) -> Iterator[_Block]:
    block = _Block()
    for line in text.splitlines(keepends=True):
        found = _HEADER.fullmatch(line.rstrip("\r\n"))
        if found:
            yield block
            path = tuple(parts_of(found[1]))
            block = _Block(path, found[2] or "", line)
        else:
            block.lines.append(line)
    yield block


def _rewritten(blocks: Sequence[_Block], data: dict[str, Any]) -> Iterator[str]:
    """The lines of all blocks in today's shape. data: what the whole says there."""
    default, name = _originals(data), ""
    for block in blocks:
        match block.path:
            case ("select",):
                yield from _select(block)
            case ("select", "filter"):
                yield from _under("[[filter]]", block, block.lines)
            case ("traces",) if any(_key_of(line) == "files" for line in block.lines):
                yield from _under("[traces.imported]", block, block.lines)
            case ("rewrite",):
                name = str(block.value("name"))
                yield from _rewrite(name, block, data)
            case ("rewrite", "engine"):
                yield from _under(f"[engine.{key_part(f'{name}-writer')}]", block, block.lines)
            case ("arm",):
                yield from _arm(block, data, default)
            case _:
                yield block.header
                yield from block.lines


def _under(header: str, block: _Block, lines: Sequence[str]) -> Iterator[str]:
    ending = "\r\n" if block.header.endswith("\r\n") else "\n"
    yield header + (f"  {block.comment}" if block.comment else "") + ending
    yield from lines


def _select(block: _Block) -> Iterator[str]:
    """Its name is gone, and what it took in place of choosing is a set."""
    chosen = block.value("from")
    rest = [line for line in block.lines if _key_of(line) not in ("name", "from")]
    if chosen:
        yield from _under("[traces.selected]", block, [f"selection = {_quoted(chosen)}\n", *rest])
    else:
        yield from (rest if any(line.strip() for line in rest) else [])


def _rewrite(name: str, block: _Block, data: dict[str, Any]) -> Iterator[str]:
    made = data["traces"].get(name, {}) if isinstance(data.get("traces"), dict) else {}
    lines = []
    for line in _without_name(block):
        found = _SAYS.fullmatch(line)
        if found and found[2] == "use":
            lines += [f"{found[1]}from = {_names(made.get('from', []))}\n", f"{found[1]}rewrite{found[3]}{found[4]}"]
        elif not found or found[2] in made:
            lines.append(line)
    writers = [key for key, value in made.items() if value == f"{name}-writer"]
    lines = [*_filled(lines), *(f"{key} = {_quoted(f'{name}-writer')}\n" for key in writers), *_blank(lines)]
    yield from _under(f"[traces.{key_part(name)}]", block, lines)
    if isinstance(block.value("engine"), dict):
        import tomlkit

        yield f"[engine.{key_part(f'{name}-writer')}]\n{tomlkit.dumps(block.value('engine'))}\n"


def _arm(block: _Block, data: dict[str, Any], default: list[str]) -> Iterator[str]:
    name = str(block.value("name"))
    made = data["arm"].get(name, {}) if isinstance(data.get("arm"), dict) else {}
    traces = made.get("traces", default)
    names = [traces] if isinstance(traces, str) else list(traces)
    lines = [line for line in _without_name(block) if _key_of(line) not in ("rewrite", "selection")]
    if names != default or len(default) != 1:
        lines.insert(0, f"traces = {_names(names)}\n")
    comment = next((found[1] for line in block.lines
                    if (found := re.fullmatch(r"\s*name\s*=\s*[^#]*(#.*?)\s*", line, re.DOTALL))), "")
    yield from _under(f"[arm.{key_part(name)}]" + (f"  {comment}" if comment else ""), block, lines)
    if selection := block.value("selection"):
        yield f"[traces.{key_part(f'{name}-selection')}]\nselection = {_quoted(selection)}\n\n"


def _without_name(block: _Block) -> list[str]:
    return [line for line in block.lines if _key_of(line) != "name"]


def _key_of(line: str) -> str:
    """The key that a line sets; empty where it sets none."""
    found = _SAYS.fullmatch(line)
    return found[2] if found else ""


def _filled(lines: Sequence[str]) -> list[str]:
    """The lines up to the last that holds something."""
    last = max((place for place, line in enumerate(lines) if line.strip()), default=-1)
    return list(lines[:last + 1])


def _blank(lines: Sequence[str]) -> list[str]:
    return list(lines[len(_filled(lines)):])


def _names(names: Sequence[str]) -> str:
    return _quoted(names[0]) if len(names) == 1 else "[" + ", ".join(map(_quoted, names)) + "]"


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
