"""The one reader of a turn, for files and for the wire: which of its texts are reasoning, which the answer, and if it
calls tools. It knows the names that servers and files give to these things, and not where a turn came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from localdistill.templates.tool_calls import CALL_FIELDS, CALL_PARTS

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "thinking_content", "reasoning_text", "thought",
                    "thoughts", "thinking_blocks", "reasoningContent", "reasoning_output", "think", "cot",
                    "chain_of_thought", "provider_specific_fields.reasoning_content")
"""Where reasoning stands beside the answer, the most usual first."""
DETAILS = "reasoning_details"
_INNER = ("thinking", "think", "reasoning", "reasoningText", "text", "value", "content", "summary")
"""Where a typed part or an object of reasoning keeps its text."""
_THOUGHT_PARTS = frozenset({"thinking", "think", "reasoning", "reasoning_text", "thought", "reasoning_content"})
_TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
_RESULT_PARTS = frozenset({"tool_result"})

PieceKind = Literal["reasoning", "text", "refusal", "call", "other"]


class Piece(NamedTuple):
    """One text of a turn."""

    kind: PieceKind
    """`call`: of a tool, `text` says which part said so. `other`: a part that holds no text; `text` is its type."""
    place: str
    """The field that it stood in: two fields may say the same words."""
    text: str
    is_summary: bool | None = None
    """Whether a text of reasoning is said to be a summary; None where nothing is said of it."""


def pieces_of(turn: Mapping[str, Any], fields: Sequence[str] = REASONING_FIELDS) -> Iterator[Piece]:
    """The texts of a turn, reasoning first, as they stand; empty ones left out. `fields`: where reasoning may stand
    beside the content; a dot leads into an object."""
    for name in fields:
        value = turn.get(name) if "." not in name else at_path(turn, name)
        if isinstance(value, str):
            if value:
                yield Piece("reasoning", name, value)
        elif isinstance(value, (Mapping, list)):
            for text, is_summary in inner_texts(value):
                yield Piece("reasoning", name, text, is_summary)
    details = turn.get(DETAILS)
    for item in details if isinstance(details, list) else ():
        if isinstance(item, Mapping) and item.get("type") != "reasoning.encrypted":
            for text, is_summary in inner_texts(item):
                yield Piece("reasoning", "details", text, is_summary)
    yield from _content(turn.get("content"))
    if isinstance(refusal := turn.get("refusal"), str) and refusal:
        yield Piece("refusal", "refusal", refusal)
    for name in CALL_FIELDS:
        if turn.get(name):
            yield Piece("call", name, name)


def at_path(turn: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path into an object; None where there is none."""
    value: Any = turn
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


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
    if kind in _TEXT_PARTS and part.get("thought") is not True:
        text = part.get("text", part.get("value", part.get("content")))
        text = text.get("value") if isinstance(text, Mapping) else text
        yield Piece("text", "content", text) if isinstance(text, str) else Piece("other", "content", kind)
    elif kind in _THOUGHT_PARTS or kind in _TEXT_PARTS:
        for text, is_summary in inner_texts(part):
            yield Piece("reasoning", "parts", text, is_summary)
    elif kind in CALL_PARTS or kind in _RESULT_PARTS:
        yield Piece("call", "content", kind)
    elif not kind and "reasoningContent" in part:
        for text, is_summary in inner_texts(part["reasoningContent"]):
            yield Piece("reasoning", "parts", text, is_summary)
    elif kind == "refusal" and isinstance(part.get("refusal"), str):
        yield Piece("refusal", "content", part["refusal"])
    elif kind != "redacted_thinking":
        yield Piece("other", "content", kind or "a part without a type")


def inner_texts(value: object, is_summary: bool = False) -> Iterator[tuple[str, bool]]:
    """The texts of an object or of a list of parts that hold reasoning, and whether each is said to be a summary."""
    if isinstance(value, str):
        if value:
            yield value, is_summary
    elif isinstance(value, list):
        for item in value:
            yield from inner_texts(item, is_summary)
    elif isinstance(value, Mapping):
        key = next((key for key in _INNER if value.get(key)), None)
        if key is not None:
            is_one = is_summary or key == "summary" or "summary" in str(value.get("type"))
            yield from inner_texts(value[key], is_one)
