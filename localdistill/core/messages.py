"""One turn of a conversation, with the tools that may be called, are called and answer. Plain values and their
identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]

ToolCall = Mapping[str, Any]
"""A call of a tool as chat completions write it: `{"id", "type": "function", "function": {"name", "arguments"}}`, the
arguments as the JSON text that the model wrote."""
ToolDefinition = Mapping[str, Any]
"""A tool that may be called, as chat completions write it: `{"type": "function", "function": {"name", "description",
"parameters"}}`, the parameters as JSON Schema."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    reasoning: str = ""
    """Of an earlier turn of the assistant, where it stood apart from the content."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What a turn of the assistant calls, in order."""
    call_id: str = ""
    """Which call a turn of a tool answers; empty where nobody said."""
    name: str = ""
    """The tool that answers; empty where nobody said."""
    tools: tuple[ToolDefinition, ...] = ()
    """What may be called in the conversation: on its first turn, whoever's that is."""

    def __hash__(self) -> int:
        return hash((self.role, self.content))  # calls and definitions are objects, which have no hash

    @property
    def beside(self) -> dict[str, Any]:
        """What there is beside role and content, by field; most turns have nothing."""
        if not (self.reasoning or self.tool_calls or self.call_id or self.name or self.tools):
            return {}
        return {name: list(value) if isinstance(value, tuple) else value for name in BESIDE
                if (value := getattr(self, name))}

    @property
    def counted(self) -> str:
        """All of its text, for whoever counts what is sent."""
        return f"{self.content}{_dumped(beside)}" if (beside := self.beside) else self.content

    @property
    def shown(self) -> str:
        """All of it, for people."""
        if not self.beside:
            return self.content
        parts = [f"(thought: {self.reasoning})" if self.reasoning else "", self.content,
                 *(f"calls {call_text(call)}" for call in self.tool_calls),
                 f"(of {self.name})" if self.name else "",
                 f"(may call: {', '.join(map(call_name, self.tools))})" if self.tools else ""]
        return "\n".join(filter(None, parts))


BESIDE = ("reasoning", "tool_calls", "call_id", "name", "tools")
"""Fields of a turn that most turns have not."""
_LISTS = frozenset({"tool_calls", "tools"})


def message_of(role: Role, content: str, beside: Mapping[str, Any]) -> Message:
    """The turn whose `beside` this is."""
    return Message(role, content, beside.get("reasoning", ""), tuple(beside.get("tool_calls", ())),
                   beside.get("call_id", ""), beside.get("name", ""), tuple(beside.get("tools", ())))


def is_beside(name: str, value: object) -> bool:
    """Whether a turn can hold `value`, read from JSON, under `name`."""
    if name in _LISTS:
        return isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return name in BESIDE and isinstance(value, str)


def turn_key(message: Message) -> list[Any]:
    """What makes a turn what it is, for `content_id`: role and content, and what else there is."""
    beside = message.beside
    return [message.role, message.content, beside] if beside else [message.role, message.content]


def text_json(text: str) -> str:
    """`text` as JSON, what is not ASCII as it is. Of ASCII the encoder that escapes everything else makes the same in
    less than half the time, but for the one character that it escapes besides."""
    return encode_basestring_ascii(text) if text.isascii() and "\x7f" not in text else encode_basestring(text)


def turns_json(messages: Iterable[Message]) -> str:
    """The JSON of their keys without the outer brackets, as `content_id` would make it, several times faster: ids are
    made for every prompt of a file."""
    return ",".join([
        f"[{text_json(m.role)},{text_json(m.content)}{f',{_dumped(beside)}' if beside else ''}]"
        for m in messages for beside in (m.beside,)])


def _dumped(value: object) -> str:
    return dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def tools_of(messages: Iterable[Message]) -> tuple[ToolDefinition, ...]:
    """What may be called in a conversation."""
    return tuple(tool for message in messages for tool in message.tools)


def call_text(call: ToolCall) -> str:
    """A call in one line, for people."""
    said = call.get("function")
    return f"{said.get('name', '?')}({said.get('arguments', '')})" if isinstance(said, Mapping) else "?"


def call_name(said: ToolCall | ToolDefinition) -> str:
    """The tool that is called or defined; empty where it has no name."""
    inner = said.get("function")
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else ""
