"""Calls of tools that a model wrote into its text, in the usual ways: JSON behind a mark, a name with JSON, tags with
one parameter each, Python. For replies whose server did not take them out of the text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_CHARS = 200_000
_DECODER = json.JSONDecoder()
_NAMES, _ARGUMENTS = ("name", "tool_name", "function", "recipient_name"), ("arguments", "parameters", "args", "input")


@dataclass(frozen=True)
class WrittenCall:
    """One call, read."""

    name: str
    arguments: Mapping[str, Any]
    """Values that stood in a text without quotes are what JSON makes of them, texts where it makes nothing of them."""


TextTypes = Callable[[str, str], bool]
"""Whether a parameter of a tool is a text, as far as the tool's definition is known."""


def written_calls(text: str, is_text: TextTypes = lambda tool, parameter: False) -> list[WrittenCall]:
    """The calls in `text`, in order; empty where it calls nothing. The first way of writing that finds one counts."""
    text = text[-MOST_CHARS:]
    for read in (_tagged, _quoted_by_mark, _named_json, _marked_json, _python, _bare_json):
        if calls := list(read(text, is_text)):
            return calls
    return []


_MARKS = re.compile(
    r"<tool_calls?>|\[TOOL_CALLS\]|<\|START_ACTION\|>|<\|tools_prefix\|>|<\|function_call\|>|<\|python_tag\|>"
    r"|<functioncall>|\bfunctools(?=\[)|function call<\|role_sep\|>|<\|tool_call\|>|<｜tool▁call▁begin｜>(?=\{)")
_NAMED = re.compile(
    r"\[TOOL_CALLS\](?P<a>[\w.-]+)(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?(?=\{)"
    r"|<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?(?P<b>[\w.-]+)(?:<｜tool▁sep｜>)?\s*(?:```json\s*)?(?=\{)"
    r"|<\|tool_call_begin\|>(?:functions\.)?(?P<c>[\w.-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*(?=\{)"
    r"|to=(?:functions\.)?(?P<d>[\w.-]+)[^{}]*?<\|message\|>\s*(?=\{)"
    r"|<function=(?P<e>[\w.-]+)>\s*(?=\{)")


def _until(opening: str) -> str:
    """Text up to what follows in the pattern, but never over another `opening`: many that never end cost no time."""
    return f"(?:(?!{opening}).)*?"


_TAGGED = re.compile(
    rf"<function=[\"']?(?P<a>[\w.-]+)[\"']?>(?P<a_in>(?:\s*<parameter={_until('<function=')})?)\s*</function>"
    rf"|<(?:｜DSML｜)?invoke name=\"(?P<b>[^\"]+)\">(?P<b_in>{_until('invoke name=')})</(?:｜DSML｜)?invoke>"
    rf"|<function name=\"(?P<c>[^\"]+)\">(?P<c_in>{_until('<function name=')})</function>"
    rf"|<tool_call>\s*(?P<d>[\w.-]+)\s*(?P<d_in>(?:<arg_key>{_until('<arg_key>')}</arg_value>\s*)*)</tool_call>"
    rf"|<\|open\|>call tool=\"(?P<e>[^\"]+)\"[^<]*<\|sep\|>(?P<e_in>{_until('>call tool=')})<\|close\|>call<\|sep\|>",
    re.DOTALL)
_PARAMETER = re.compile(
    rf"<parameter=[\"']?(?P<a>[\w.-]+)[\"']?>(?P<a_in>{_until('<parameter=')})</parameter>"
    rf"|<(?:｜DSML｜)?param(?:eter)? name=\"(?P<b>[^\"]+)\"(?P<how>[^>]*)>(?P<b_in>{_until('param(?:eter)? name=')})"
    r"</(?:｜DSML｜)?param(?:eter)?>"
    rf"|<arg_key>(?P<c>{_until('<arg_key>')})</arg_key>\s*<arg_value>(?P<c_in>{_until('<arg_value>')})</arg_value>"
    rf"|<\|open\|>argument key=\"(?P<d>[^\"]+)\"(?P<type>[^<]*)<\|sep\|>(?P<d_in>{_until('>argument key=')})"
    r"<\|close\|>argument<\|sep\|>", re.DOTALL)
_TEXTS = ('string="true"', 'type="string"')
_ELEMENT, _OF_ELEMENT = "]<]minimax[>[", re.compile(r"<(/?)([^<>]+)>")
_QUOTE = '<|"|>'
_QUOTED = re.compile(rf"<\|tool_call>call:(?P<name>[\w.-]+)\{{(?P<inner>{_until('>call:')})\}}<tool_call\|>", re.DOTALL)


def _tagged(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    for call in _TAGGED.finditer(text):
        name, inner = _first(call, "abcde")
        found = _elements(inner, name, is_text) if _ELEMENT in inner else {}
        for one in _PARAMETER.finditer(inner):
            key, value = _first(one, "abcd")
            key, how = key.strip(), one["how"] or one["type"] or ""
            value = value.removeprefix("\n").removesuffix("\n")
            found[key] = value if is_text(name, key) or any(said in how for said in _TEXTS) else _value(value)
        yield WrittenCall(name, found)


def _elements(inner: str, tool: str, is_text: TextTypes) -> dict[str, Any]:
    """Arguments as elements, each tag behind a mark of its own; `item` elements are a list. What is not well formed
    ends the reading."""
    found: dict[str, Any] = {}
    open_ones: list[tuple[str, Any, str]] = [("", found, "")]  # name, the value so far, the text behind its tag
    for piece in inner.split(_ELEMENT)[1:]:
        tag = _OF_ELEMENT.match(piece)
        if tag is None:
            break
        if not tag[1]:
            open_ones.append((tag[2], None, piece[tag.end():]))
            continue
        name, value, text = open_ones.pop()
        if name != tag[2] or not open_ones:
            break
        if value is None:
            value = text if len(open_ones) == 1 and is_text(tool, name) else _value(text)
        holder, held, behind = open_ones[-1]
        if held is None:
            held = [] if name == "item" else {}
            open_ones[-1] = (holder, held, behind)
        if isinstance(held, list):
            held.append(value)
        else:
            held[name] = value
    return found


def _quoted_by_mark(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    """Objects as JSON writes them, but with a mark in place of quotes and bare names."""
    for call in _QUOTED.finditer(text):
        parts = f"{{{call['inner']}}}".split(_QUOTE)
        parts[::2] = [re.sub(r"([{,]\s*)([^\s\"{}\[\],:]+)\s*:", r'\1"\2":', part) for part in parts[::2]]
        parts[1::2] = [json.dumps(part) for part in parts[1::2]]
        arguments = _value("".join(parts))
        if not isinstance(arguments, dict):
            arguments = _value(call["inner"])
        if isinstance(arguments, dict):
            yield WrittenCall(call["name"], arguments)


def _first(found: re.Match[str], groups: str) -> tuple[str, str]:
    """The name and the inside of whichever way of writing it is."""
    which = next(group for group in groups if found[group] is not None)
    return found[which], found[f"{which}_in"] or ""


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


def _named_json(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    for mark in _NAMED.finditer(text):
        name = next(value for value in mark.groupdict().values() if value is not None)
        value, _ = _json_at(text, mark.end())
        if isinstance(value, dict):
            yield WrittenCall(name, value)


def _marked_json(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    end = 0
    for mark in _MARKS.finditer(text):
        if mark.start() < end:
            continue
        end = mark.end()
        while True:  # several may stand behind one mark
            value, after = _json_at(text, end)
            if after == end:
                break
            yield from _calls_in(value)
            end = after


def _bare_json(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    """An answer that is calls and nothing else, or whose fenced blocks are."""
    blocks = re.findall(r"```(?:json|tool_call|tool_code)?\s*\n(.*?)```", text, re.DOTALL) or [text]
    for block in blocks:
        block, end = block.strip(), 0
        found: list[WrittenCall] = []
        while end < len(block):
            value, after = _json_at(block, end)
            if after == end:
                found = []
                break
            found += _calls_in(value, is_sure=False)
            end = after + len(block[after:]) - len(block[after:].lstrip(" \t\r\n,;"))
        yield from found


def _json_at(text: str, place: int) -> tuple[Any, int]:
    """The JSON value that begins at `place`, and the place behind it, which is `place` where there is none."""
    begin = place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n,;"))
    try:
        return _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None, place


def _calls_in(value: Any, is_sure: bool = True) -> Iterator[WrittenCall]:
    """The calls that a value of JSON states. is_sure: a mark says that it is one."""
    if isinstance(value, list):
        for item in value:
            yield from _calls_in(item, is_sure)
    if not isinstance(value, dict):
        return
    said = value["function"] if isinstance(value.get("function"), dict) else value
    name = next((said[key] for key in _NAMES if isinstance(said.get(key), str)), None)
    held = next((key for key in _ARGUMENTS if key in said), None)
    if name is not None and (held is not None or is_sure):
        arguments = said[held] if held else {}
        if isinstance(arguments, str):
            arguments = _value(arguments)
        if isinstance(arguments, dict):
            yield WrittenCall(name, arguments)
    elif is_sure and name is None and len(value) == 1:
        [(only, arguments)] = value.items()
        if isinstance(arguments, dict):
            yield WrittenCall(only, arguments)


def _python(text: str, is_text: TextTypes) -> Iterator[WrittenCall]:
    """Calls as Python writes them: `[f(a=1), g(b="x")]`, one by itself, or behind a mark."""
    marked = re.findall(r"<\|tool_call_start\|>(.*?)<\|tool_call_end\|>", text, re.DOTALL)
    for piece in marked or re.findall(r"```(?:python|py|tool_code)?\s*\n(.*?)```", text, re.DOTALL) or [text]:
        yield from _of_python(piece.strip())


def _of_python(text: str) -> Iterator[WrittenCall]:
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    calls: Iterable[ast.expr] = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
    found = [_of_call(call) for call in calls]
    if all(one is not None for one in found):
        yield from (one for one in found if one is not None)


def _of_call(call: ast.expr) -> WrittenCall | None:
    if not isinstance(call, ast.Call) or call.args or not _is_dotted(call.func):
        return None
    try:
        arguments = {str(one.arg): _literal(one.value) for one in call.keywords if one.arg is not None}
    except ValueError:
        return None
    return WrittenCall(ast.unparse(call.func), arguments) if len(arguments) == len(call.keywords) else None


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _literal(node: ast.expr) -> Any:
    """A value as Python or JSON writes it; a bare word is a text, as models write constants of an interface."""
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}.get(node.id, node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values) if key is not None}
    return ast.literal_eval(node)
