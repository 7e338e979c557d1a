"""Calls of tools in a turn, under the names that servers and files give to their parts, as the one form that is kept:
`{"id", "type": "function", "function": {"name", "arguments"}}`, the arguments as the JSON text that the model wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from localdistill.core.records import ToolCall

CALL_FIELDS = ("tool_calls", "function_call")
"""Where calls stand beside the content."""
CALL_PARTS = frozenset({"tool_call", "tool_calls", "tool_use", "function_call"})
"""Types of parts of a content that are calls."""
_ARGUMENTS = ("arguments", "partial_json", "input", "parameters", "args")


def tool_call(name: str, arguments: object, key: str = "") -> ToolCall:
    """A call of `name`; arguments: JSON text, or what becomes it."""
    text = arguments if isinstance(arguments, str) else json.dumps(
        {} if arguments is None else arguments, ensure_ascii=False)
    return {"id": key, "type": "function", "function": {"name": name, "arguments": text}}


def calls_of(turn: Mapping[str, Any]) -> Iterator[ToolCall | None]:
    """The calls of a turn, in order; None for one that names no tool, so that nobody takes it for nothing."""
    for name in CALL_FIELDS:
        value = turn.get(name)
        for item in value if isinstance(value, list) else [value] if value else ():
            yield call_in(item)
    content = turn.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and str(part.get("type")) in CALL_PARTS:
            inner = part.get("tool_calls") or part.get("value") or part
            for item in inner if isinstance(inner, list) else [inner]:
                yield call_in(item)


def call_in(item: object) -> ToolCall | None:
    """The call that `item` is, also as JSON text; None when it names no tool."""
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except (ValueError, RecursionError):
            return None
    if not isinstance(item, Mapping):
        return None
    inner = item.get("function")
    said: Mapping[str, Any] = inner if isinstance(inner, Mapping) else item
    name = said.get("name") if not isinstance(inner, str) else inner
    if not isinstance(name, str) or not name.strip():
        return None
    arguments = next((said[key] for key in _ARGUMENTS if said.get(key) not in (None, "")), None)
    key = item.get("id") or item.get("call_id") or item.get("tool_call_id")
    return tool_call(name, {} if arguments is None else arguments, key if isinstance(key, str) else "")
