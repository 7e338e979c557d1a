"""Turns and tools as the bodies of the two dialects hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.messages import Message, tools_of
from localdistill.templates.tool_calls import arguments_of


def chat_turns(messages: Sequence[Message]) -> dict[str, Any]:
    """`messages`, and `tools` where there are any, of chat completions. Reasoning of earlier turns is not sent: that is
    how such servers are asked."""
    body: dict[str, Any] = {"messages": [_chat_turn(message) for message in messages]}
    if tools := tools_of(messages):
        body["tools"] = [*map(dict, tools)]
    return body


def _chat_turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [*map(dict, message.tool_calls)]
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


def block_turns(messages: Sequence[Message]) -> dict[str, Any]:
    """`messages`, `system` and `tools` of the messages API: calls and results are blocks, and results are the user's.
    Calls without an id get one by their place."""
    body: dict[str, Any] = {"messages": []}
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            key = message.call_id or (waiting[0] if waiting else "")
            waiting = [one for one in waiting if one != key]
            result = {"type": "tool_result", "tool_use_id": key, "content": message.content}
            if body["messages"] and _holds_results(body["messages"][-1]):
                body["messages"][-1]["content"].append(result)
            else:
                body["messages"].append({"role": "user", "content": [result]})
        elif message.tool_calls:
            spoken = [{"type": "text", "text": message.content}] if message.content else []
            calls = [{"type": "tool_use", "id": call.get("id") or f"call_{len(body['messages'])}_{place}",
                      "name": call["function"].get("name", ""), "input": arguments_of(call)}
                     for place, call in enumerate(message.tool_calls)]
            waiting = [call["id"] for call in calls]
            body["messages"].append({"role": "assistant", "content": [*spoken, *calls]})
        else:
            body["messages"].append({"role": message.role, "content": message.content})
    if system := "\n\n".join(m.content for m in messages if m.role == "system"):
        body["system"] = system
    if tools := tools_of(messages):
        body["tools"] = [_block_tool(tool["function"]) for tool in tools if isinstance(tool.get("function"), Mapping)]
    return body


def _holds_results(turn: Mapping[str, Any]) -> bool:
    content = turn["content"]
    return isinstance(content, list) and content[-1]["type"] == "tool_result"


def _block_tool(said: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": said["description"]} if said.get("description") else {}
    return {"name": said.get("name", ""), **described,
            "input_schema": said.get("parameters") or {"type": "object", "properties": {}}}
