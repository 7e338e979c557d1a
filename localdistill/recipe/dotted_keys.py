"""Dotted keys, as TOML writes them: parts joined by dots, and a part that is no bare word in quotes, so that names with
a dot (`engine."qwen2.5".model`) can be told, edited and set like any other. Problems, drafts, settings and forms all
name places of a recipe this way."""

from __future__ import annotations

import json
import re

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'("(?:[^"\\]|\\.)*")|\'([^\']*)\'|([^.]*)')


def key_part(text: str) -> str:
    """One part: as it is, or in quotes."""
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def key_of(*parts: object) -> str:
    """The key of these parts, which are names and numbers, from the outermost; empty without any."""
    return ".".join(key_part(str(part)) for part in parts)


def parts_of(key: str) -> list[str]:
    """The parts of a key, without quotes."""
    parts, at = list[str](), 0
    while True:
        found = _PART.match(key, at)
        assert found is not None  # the last alternative takes anything
        quoted, literal, bare = found.groups()
        parts.append(_unquoted(quoted) if quoted else bare.strip() if literal is None else literal)
        at = found.end()
        if key[at:at + 1] != ".":
            return parts if at == len(key) else [*parts[:-1], *key[found.start():].split(".")]
        at += 1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text
