"""Token deltas of a stream merged into the one object they amount to; also error objects and numbers in headers, which
the dialects share too. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from localdistill.templates.turns import REASONING_FIELDS

TEXT_KEYS = frozenset({"content", "refusal", "text", "value", "summary", "data", "signature", "encrypted_content",
                       "arguments", "partial_json", *REASONING_FIELDS})
"""Keys whose texts come in pieces."""


class Parts(list[str]):
    """The pieces of one text; joined once, at the end."""


def merge(into: dict[str, Any], new: Mapping[str, Any], texts: Collection[str] = TEXT_KEYS) -> None:
    """Add a delta: texts of text fields (those in `texts`) grow, lists of objects are joined by `index` (or end to end,
    neighbours of the same type as one), everything else is replaced, but by nothing."""
    for key, value in new.items():
        if value is None or (value == "" and key not in texts and into.get(key)):
            into.setdefault(key, None)
        elif isinstance(value, str) and key in texts:
            before = into.get(key)
            if isinstance(before, Parts):
                before.append(value)
            elif isinstance(before, list):
                if value:  # a content of typed parts goes on as plain text
                    _merge_item(before, {"type": "text", "text": value}, texts)
            else:
                into[key] = Parts([value])
        elif isinstance(value, list):
            rows = into.get(key)
            if isinstance(rows, Parts):
                rows = into[key] = [{"type": "text", "text": rows}] if any(rows) else []
            elif not isinstance(rows, list):
                rows = into[key] = []
            for item in value:
                _merge_item(rows, item, texts)
        elif isinstance(value, dict):
            inner = into.get(key)
            if not isinstance(inner, dict):
                inner = into[key] = {}
            merge(inner, value, texts)
        else:
            into[key] = value


def _merge_item(rows: list[Any], item: object, texts: Collection[str]) -> None:
    if not isinstance(item, Mapping):
        rows.append(item)
        return
    index, kind = item.get("index"), item.get("type")
    same = None
    if index is not None:
        same = next((row for row in reversed(rows) if isinstance(row, dict) and row.get("index") == index
                     and (kind is None or row.get("type", kind) == kind) and not _is_another(row, item)), None)
    elif rows and isinstance(rows[-1], dict) and kind is not None and rows[-1].get("type") == kind and not (
            _is_another(rows[-1], item) or (_names_tool(rows[-1]) and _names_tool(item))):
        same = rows[-1]
    if same is None:
        same = {}
        rows.append(same)
    merge(same, item, texts)


def _is_another(row: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """True when `item` has a name of its own (some servers number nothing), or one of them is a thought."""
    return (bool(row.get("id") and item.get("id")) and row["id"] != item["id"]) or (
        row.get("thought") != item.get("thought"))


def _names_tool(item: Mapping[str, Any]) -> bool:
    inner = item.get("function")
    return isinstance(inner, Mapping) and bool(inner.get("name"))


def grown_counts(old: object, new: object) -> object:
    """What stands where two events stated `old` and `new`: of objects each member, of whole numbers the larger one, as
    counts only grow; else the later one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: grown_counts(old.get(key), value) for key, value in new.items() if value is not None}}
    if type(old) is int and type(new) is int:
        return max(old, new)
    return new


def unfold(value: Any) -> Any:
    """`value` with its pieces joined."""
    if isinstance(value, Parts):
        return "".join(value)
    if isinstance(value, dict):
        return {key: unfold(item) for key, item in value.items()}
    return [unfold(item) for item in value] if isinstance(value, list) else value


def error_of(body: object) -> tuple[str, int] | None:
    """(message, status) of an error object; None when there is none."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not error:
        return None
    if not isinstance(error, Mapping):
        return str(error), 0
    code = str(error.get("code") or error.get("status"))
    return str(error.get("message") or json.dumps(error)), int(code) if code.isdecimal() and len(code) < 4 else 0


def number_of(text: str | None) -> float | None:
    """A number of 0 or more; None when there is none."""
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None
