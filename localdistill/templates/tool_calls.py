"""Calls and definitions of tools, under the names that servers and files give to their parts, as the one form of each
that is kept: `{"id", "type": "function", "function": {"name", "arguments"}}`, the arguments as the JSON text that the
model wrote, and `{"type": "function", "function": {"name", "description", "parameters"}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from localdistill.core.messages import ToolCall, ToolDefinition

CALL_FIELDS = ("tool_calls", "function_call")
"""Where calls stand beside the content."""
CALL_PARTS = frozenset({"tool_call", "tool_calls", "tool_use", "function_call"})
"""Types of parts of a content that are calls."""
_TAGS = re.compile(r"</?(?:tool_calls?|functioncall)>", re.IGNORECASE)
_DECODER = json.JSONDecoder()
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
            yield from calls_in(part.get("tool_calls") or part.get("value") or part)


def calls_in(value: object) -> Iterator[ToolCall | None]:
    """The calls that `value` is: one or a list, also as JSON text, one behind the other, or in tags; None for one that
    names no tool."""
    for item in _objects(value):
        yield from calls_in(item) if isinstance(item, list) else [call_in(item)]


def _objects(value: object) -> list[Any]:
    if not isinstance(value, str):
        return value if isinstance(value, list) else [value]
    text, found = _TAGS.sub(" ", value).strip(), []
    while text:
        try:
            one, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return [None]
        found.append(one)
        text = text[end:].lstrip(" \t\r\n,;")
    return found or [None]


def _unfolded(value: object) -> object:
    """JSON text as what it says, None where it is none; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def call_in(item: object) -> ToolCall | None:
    """The call that `item` is, also as JSON text; None when it names no tool."""
    item = _unfolded(item)
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


def definitions_in(value: object) -> tuple[ToolDefinition, ...] | None:
    """The tools that `value` defines: a list, one, or the JSON text of them; None when it holds something else."""
    value = [] if isinstance(value, str) and not value.strip() else _unfolded(value)
    items = value if isinstance(value, list) else [value]
    found = [definition_in(item) for item in items]
    return None if None in found else tuple(one for one in found if one is not None)


def definition_in(item: object) -> ToolDefinition | None:
    """The tool that `item` defines, also as JSON text or by its bare name; None when it has no name. What tables write
    for a property that a tool has not (null) is left out."""
    if isinstance(item, str):
        if re.fullmatch(r"[\w.-]{1,64}", item):
            return {"type": "function", "function": {"name": item}}
        item = _unfolded(item)
    if not isinstance(item, Mapping):
        return None
    inner = item.get("function")
    said: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {
        _RENAMED.get(str(key), str(key)): one for key, one in item.items() if key != "type" or one != "function"}
    name = said.get("name")
    if not isinstance(name, str) or not name.strip():
        return None
    return {"type": "function", "function": {key: _without_nothing(one) for key, one in said.items()
                                             if one is not None}}


_RENAMED = {"input_schema": "parameters", "inputSchema": "parameters"}
"""What the messages API and MCP call the parameters."""


_VALUES = frozenset({"default", "const", "example"})
"""Keywords of a schema whose null is a value."""


def _without_nothing(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_nothing(inner) for key, inner in value.items() if inner is not None or key in _VALUES}


def arguments_of(call: ToolCall) -> Any:
    """What a call hands over, as the value that its JSON text is; the text itself where it is none."""
    said = call.get("function")
    text = said.get("arguments", "") if isinstance(said, Mapping) else ""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
