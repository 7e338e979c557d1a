"""How one template wants to be told of reasoning and tools: under which name, in which form, with which ids. Found once
per template by trying, never by its name; what it leaves out of what it is told is a reason to refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from localdistill.core.errors import TemplateRefused
from localdistill.core.messages import Message, ToolCall, ToolDefinition
from localdistill.templates.thinking import split_thinking
from localdistill.templates.tool_calls import arguments_of

Render = Callable[[Sequence[Mapping[str, Any]], Sequence[ToolDefinition], bool, "bool | None"], str]
"""Turns, tools, whether the assistant is to go on, whether it is to think -> text. Raises TemplateRefused."""
ReasoningName = Literal["reasoning_content", "thinking", "reasoning", "parts"]
_NAMES: tuple[ReasoningName, ...] = ("reasoning_content", "thinking", "reasoning", "parts")
Ids = Literal["any", "nine", "named"]
"""What ids of calls must be: anything, nine letters and digits, or the name of the tool with a number."""

SAID, THOUGHT = "qLDvSentinelqLDv", "qLDvThoughtqLDv"
"""Texts that stand in no template."""
_TOOL, _CALLED, _KEY, _VALUE, _ANSWERED = "qldv_tool", "qldv_called", "qldvkey", "qLDvValueqLDv", "qLDvResultqLDv"
_PARTS = re.compile(r"""['"]thinking['"]\s*:""")
"""Parts that were written as they are, by a template that takes content for a text."""
_DEFINED: ToolDefinition = {"type": "function", "function": {
    "name": _TOOL, "description": "qLDv tells qLDv", "parameters": {
        "type": "object", "properties": {_KEY: {"type": "string", "description": "a key"}}, "required": [_KEY]}}}
_CALL: ToolCall = {"id": "call_qLDv0123456789", "type": "function",
                   "function": {"name": _CALLED, "arguments": f'{{"{_KEY}": "{_VALUE}"}}'}}
_CALLING = (Message("user", "?"), Message("assistant", "", tool_calls=(_CALL,)), Message("tool", _ANSWERED),
            Message("assistant", SAID))


@dataclass(frozen=True)
class ToolManners:
    """What a template wants of calls, and why it cannot be told of them."""

    as_text: bool = False
    """Arguments as JSON text, not as an object."""
    ids: Ids = "any"
    no_calls: str = ""
    """Why calls and results cannot be told; empty where they can."""
    no_definitions: str = ""


def reasoning_name(render: Render) -> ReasoningName:
    """Under which name a turn's reasoning is written by the template; the usual one where under none."""
    for name in _NAMES:
        turn = turn_as({"role": "assistant", "content": SAID}, THOUGHT, name)
        try:
            text = render([{"role": "user", "content": "?"}, turn], (), False, True)
        except TemplateRefused:
            continue
        if THOUGHT in text and not _PARTS.search(text):
            return name
    return _NAMES[0]


def turn_as(turn: dict[str, Any], reasoning: str, name: ReasoningName) -> dict[str, Any]:
    """A turn with its reasoning under the name that is wanted."""
    if not reasoning:
        return turn
    if name != "parts":
        return {**turn, name: reasoning}
    said = [{"type": "text", "text": turn["content"]}] if turn["content"] else []
    return {**turn, "content": [{"type": "thinking", "thinking": reasoning}, *said]}


def tool_manners(render: Render) -> ToolManners:
    """What the template wants of calls and definitions, tried on a conversation that has both."""
    return replace(_calls(render), no_definitions=_definitions(render))


def _calls(render: Render) -> ToolManners:
    why = ""
    ways: tuple[tuple[Ids, bool], ...] = tuple(product(("any", "nine", "named"), (False, True)))
    for ids, as_text in ways:
        manners = ToolManners(as_text, ids)
        try:
            text = render(told(_CALLING, "reasoning_content", manners), (_DEFINED,), False, None)
        except TemplateRefused as refusal:
            why = why or f"it refuses calls of tools ({refusal.reason})"
            continue
        wrong = _wrong_in(text)
        if not wrong:
            return manners
        why = wrong
    return ToolManners(no_calls=why)


def _wrong_in(text: str) -> str:
    """What is wrong with the conversation as it was rendered; empty where nothing is."""
    if _CALLED not in text or _VALUE not in text:
        return "it leaves out what is called"
    if _ANSWERED not in text:
        return "it leaves out what tools answer"
    if f"{{'{_KEY}'" in text or f'\\"{_KEY}' in text:
        return "it does not write arguments of calls as JSON"
    return "" if SAID in text else "it leaves out what is said after a call"


def _definitions(render: Render) -> str:
    try:
        text = render([{"role": "user", "content": "?"}], (_DEFINED,), True, None)
    except TemplateRefused as refusal:
        return f"it refuses definitions of tools ({refusal.reason})"
    return "" if _TOOL in text else "it leaves out which tools there are"


def told(messages: Sequence[Message], name: ReasoningName, manners: ToolManners) -> list[dict[str, Any]]:
    """The turns as the template is told of them. Thinking that an earlier turn of the assistant, before the last
    question, holds in marks stands apart: the template handles it as it does what a chat hands over. Calls without an
    id get one by their place; what a tool answers is told with the call that it belongs to."""
    asked = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    turns: list[dict[str, Any]] = []
    waiting: dict[str, dict[str, Any]] = {}
    calls = 0
    for place, message in enumerate(messages):
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        reasoning = message.reasoning
        if message.role == "assistant" and place < asked and not reasoning:
            split = split_thinking(message.content)
            if split.found and split.closed:
                turn["content"], reasoning = split.answer, split.reasoning
        if message.tool_calls:
            said = [_call(call, calls + number, manners) for number, call in enumerate(message.tool_calls)]
            waiting = {str(call.get("id") or one["id"]): one for call, one in
                       zip(message.tool_calls, said, strict=True)}
            turn["tool_calls"], calls = said, calls + len(said)
        if message.role == "tool":
            key = message.call_id if message.call_id in waiting else next(iter(waiting), "")
            answers = waiting.pop(key, {"id": message.call_id, "function": {"name": ""}})
            turn |= {"tool_call_id": answers["id"], "name": message.name or answers["function"]["name"]}
        turns.append(turn_as(turn, reasoning, name))
    return turns


def _call(call: ToolCall, number: int, manners: ToolManners) -> dict[str, Any]:
    said = call.get("function")
    name = str(said.get("name", "")) if isinstance(said, Mapping) else ""
    text = said.get("arguments", "") if isinstance(said, Mapping) else ""
    key = str(call.get("id") or f"call{number:05d}")
    if manners.ids == "nine" and not (len(key) == 9 and key.isalnum()):
        key = f"call{number:05d}"
    if manners.ids == "named" and not key.startswith("functions."):
        key = f"functions.{name}:{number}"
    value = arguments_of(call)
    return {"id": key, "type": "function",
            "function": {"name": name, "arguments": text if manners.as_text or not isinstance(value, dict) else value}}
