"""The one reader of a turn, for files and for the wire: which of its texts are reasoning, which the answer, and if it
calls tools. It knows the names that servers and files give to these things, and not where a turn came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "thinking_content", "thought", "thoughts")
"""Where reasoning stands beside the answer, the most usual first."""
_INNER = ("thinking", "reasoning", "text", "value", "content", "summary")
"""Where a typed part or an object of reasoning keeps its text."""
_THOUGHT_PARTS = frozenset({"thinking", "reasoning", "reasoning_text", "thought", "reasoning_content"})
_TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
_CALL_PARTS = frozenset({"tool_call", "tool_calls", "tool_use", "function_call", "tool_result"})
_CALL_FIELDS = ("tool_calls", "function_call")

PieceKind = Literal["reasoning", "text", "refusal", "call", "other"]


class Piece(NamedTuple):
    """One text of a turn."""

    kind: PieceKind
    """`call`: of a tool, `text` says which part said so. `other`: a part that holds no text; `text` is its type."""
    place: str
    """The field that it stood in: two fields may say the same words."""
    text: str


def pieces_of(turn: Mapping[str, Any], fields: Sequence[str] = REASONING_FIELDS) -> Iterator[Piece]:
    """The texts of a turn, reasoning first, as they stand; empty ones left out. `fields`: where reasoning may stand
    beside the content."""
    for name in fields:
        value = turn.get(name)
        if isinstance(value, str):
            if value:
                yield Piece("reasoning", name, value)
        elif isinstance(value, (Mapping, list)):
            for text in _inner_texts(value):
                yield Piece("reasoning", name, text)
    details = turn.get("reasoning_details")
    for item in details if isinstance(details, list) else ():
        if isinstance(item, Mapping) and item.get("type") != "reasoning.encrypted":
            for text in _inner_texts(item):
                yield Piece("reasoning", "details", text)
    yield from _content(turn.get("content"))
    if isinstance(refusal := turn.get("refusal"), str) and refusal:
        yield Piece("refusal", "refusal", refusal)
    for name in _CALL_FIELDS:
        if turn.get(name):
            yield Piece("call", name, name)


def joined(texts: Mapping[str, str]) -> str:
    """The reasoning of several fields as one text: a field that another one contains says nothing new."""
    kept: list[str] = []
    for text in sorted((text.strip() for text in texts.values()), key=len, reverse=True):
        if text and not any(text in longer for longer in kept):
            kept.append(text)
    return "\n\n".join(kept)


def _content(content: object) -> Iterator[Piece]:
    """A content that is a string, or a list of strings and typed parts."""
    if isinstance(content, str):
        if content:
            yield Piece("text", "content", content)
        return
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            yield Piece("text", "content", part)
        elif isinstance(part, Mapping):
            yield from _part(part)


def _part(part: Mapping[str, Any]) -> Iterator[Piece]:
    kind = str(part.get("type") or ("text" if isinstance(part.get("text"), str) else ""))
    if kind in _TEXT_PARTS:
        text = part.get("text", part.get("value", part.get("content")))
        yield Piece("text", "content", text) if isinstance(text, str) else Piece("other", "content", kind)
    elif kind in _THOUGHT_PARTS:
        for text in _inner_texts(part):
            yield Piece("reasoning", "parts", text)
    elif kind in _CALL_PARTS:
        yield Piece("call", "content", kind)
    elif kind != "redacted_thinking":
        yield Piece("other", "content", kind or "a part without a type")


def _inner_texts(value: object) -> Iterator[str]:
    """The texts of an object or of a list of parts that hold reasoning."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _inner_texts(item)
    elif isinstance(value, Mapping):
        found = next((value[key] for key in _INNER if value.get(key)), None)
        yield from _inner_texts(found)
