"""What a GGUF header claims of its model against the tensors that it holds: a number of blocks or heads is believed
only as far as there are tensors for it, because lists are made as long as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.modelfiles.tensors import MOST_TENSORS
from localdistill.templates import MOST_TEMPLATE_CHARS

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class LongArray:
    """An array that was checked and skipped: only its length is kept."""

    count: int


Value = Scalar | list[Scalar] | LongArray

_MOST_TOKENS = 1 << 31
_BLOCKS = "block_count"
_WIDTHS = ("embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
           "attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size", "expert_count")
"""Numbers that no tensor could have room for where they are larger than every side of every tensor."""
_BY_BLOCK = ("feed_forward_length", "attention.head_count", "attention.head_count_kv")
"""Those that may be a list with one number for each block."""
_PER_TOKEN = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_TEMPLATE = "tokenizer.chat_template"
_TOKENS, _EMBEDDING = "tokenizer.ggml.tokens", "token_embd.weight"


def wrong_claim(metadata: Mapping[str, Value], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What of `metadata` cannot be true of a file with tensors of these shapes, in words; empty when nothing. A file
    that says that it is one of several parts is compared with what it says of all of them."""
    prefix = metadata.get("general.architecture", "")
    is_part = _whole(metadata.get("split.count", 1)) not in (None, 1)
    held = _whole(metadata.get("split.tensors.count", MOST_TENSORS)) if is_part else len(shapes)
    if held is None or not 0 <= held <= MOST_TENSORS:
        return f"'split.tensors.count' says {_shown(metadata['split.tensors.count'])}"
    widest = max((side for shape in shapes.values() for side in shape), default=0)
    most = {name: _MOST_TOKENS if is_part or not shapes else widest for name in _WIDTHS}
    for name, limit in {**most, _BLOCKS: held, "context_length": _MOST_TOKENS}.items():
        value = metadata.get(f"{prefix}.{name}")
        if value is not None and (wrong := _wrong_number(value, limit, held if name in _BY_BLOCK else 0)):
            return f"'{prefix}.{name}' {wrong}"
    for name, value in metadata.items():
        if name.startswith(_TEMPLATE) and isinstance(value, str) and len(value) > MOST_TEMPLATE_CHARS:
            return f"{name[:80]!r} has {len(value):,} characters; templates have at most {MOST_TEMPLATE_CHARS:,}"
    return _wrong_tokens(metadata, shapes)


def _wrong_number(value: Value, most: int, blocks: int) -> str:
    """What is wrong with one number, or with a list of at most `blocks`."""
    if isinstance(value, LongArray) or (isinstance(value, list) and len(value) > blocks):
        return f"is a list, longer than the {blocks:,} numbers that there may be"
    for one in value if isinstance(value, list) else [value]:
        number = _whole(one)
        if number is None:
            return f"is {_shown(one)}, no whole number"
        if not 0 <= number <= most:
            return f"says {_shown(one)}, and what the file holds allows {most:,}"
    return ""


def _wrong_tokens(metadata: Mapping[str, Value], shapes: Mapping[str, tuple[int, ...]]) -> str:
    tokens = metadata.get(_TOKENS)
    if tokens is None:
        return ""
    count = _length(tokens)
    if count is None:
        return f"{_TOKENS!r} is no list"
    for key in _PER_TOKEN:
        if key in metadata and _length(metadata[key]) != count:
            return f"{key!r} has another length than the list of {count:,} tokens"
    rows = shapes.get(_EMBEDDING, ())[1:2]
    if rows and rows[0] != count:
        return f"it lists {count:,} tokens, and {_EMBEDDING!r} has {rows[0]:,} rows"
    return ""


def _length(value: Value) -> int | None:
    if isinstance(value, LongArray):
        return value.count
    return len(value) if isinstance(value, list) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    return repr(value)[:80]
