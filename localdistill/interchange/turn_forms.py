"""Conversations in whatever arrangement a file has them: as turns, as the JSON or the transcript of them, as columns of
turns, or as pairs of what was asked and answered. What a single turn holds is read elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

SPEAKERS = ("role", "from", "speaker", "author")
"""Where a turn says who speaks."""
_OBJECT = (dict, Mapping)
"""What a turn is; nearly all are the former, which is found out in a tenth of the time."""
_TYPES = frozenset({"human", "ai", "system", "tool", "user", "assistant", "reasoning", "function_call",
                    "function_call_output"})
"""What a turn may say under `type` in place of that."""
_PAIR = {**dict.fromkeys(("human", "user", "question", "prompt", "input"), "user"),
         **dict.fromkeys(("assistant", "bot", "answer", "response", "output"), "assistant")}
"""What the two texts of a pair are called, and who says them."""
_TRANSCRIPTS = tuple(re.compile(form, re.DOTALL) for form in (
    r"<\|im_start\|>(?P<who>\w+)\n(?P<text>.*?)(?:<\|im_end\|>\s*|\Z)",
    r"<\|start_header_id\|>(?P<who>\w+)<\|end_header_id\|>\n\n(?P<text>.*?)(?:<\|eot_id\|>\s*|\Z)",
    r"<start_of_turn>(?P<who>\w+)\n(?P<text>.*?)(?:<end_of_turn>\s*|\Z)",
    r"<\|(?P<who>system|user|assistant)\|>\n?(?P<text>.*?)(?:<\|end\|>\s*|</s>\s*|(?=<\|(?:system|user|assistant)\|>)|\Z)",
    r"### (?P<who>Human|Assistant|System): ?(?P<text>.*?)\s*(?=### (?:Human|Assistant|System):|\Z)",
))
"""Whole conversations in the marks of a chat template, from their first character to their last."""
_BEGINS = re.compile(r"(?:<s>|<bos>|<\|begin_of_text\|>)?\s*")
_INSTRUCTED = re.compile(r"\[INST\](?P<asked>.*?)\[/INST\](?P<said>.*?)(?:</s>|(?=\[INST\])|\Z)", re.DOTALL)


def turns_in(value: object) -> list[Any] | None:
    """The turns that `value` holds; None when it is no conversation."""
    if isinstance(value, str):
        value = _of_text(value)
    if isinstance(value, Mapping):
        value = _of_columns(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and value[0]:
        (value,) = value
    if not isinstance(value, list) or not all([isinstance(turn, _OBJECT) for turn in value]):
        return None
    if value and _is_pair(value[0]):
        return [turn for pair in value for turn in _of_pair(pair)] if all(map(_is_pair, value)) else None
    return [_flat(turn) for turn in value] if not value or _speaks(value[0]) else None


def _speaks(turn: Mapping[str, Any]) -> bool:
    """Whether it says who speaks; a part of a content has a type, too."""
    return any([name in turn for name in SPEAKERS]) or turn.get("type") in _TYPES


def _flat(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """A turn whose content some tools put one level deeper, or that names its speaker by a type."""
    if "type" not in turn or any(name in turn for name in SPEAKERS):
        return turn
    inner = turn.get("data")
    more = turn.get("additional_kwargs")
    said = {**inner, **turn} if isinstance(inner, Mapping) else dict(turn)
    said = {**more, **said} if isinstance(more, Mapping) else said
    return {**said, "role": turn["type"]}


def _of_text(text: str) -> object:
    if text.lstrip().startswith("["):
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            return _transcript(text)
        return value
    return _transcript(text)


def _transcript(text: str) -> list[dict[str, str]] | None:
    """The turns of a text that is a whole conversation; None for any other."""
    if not text.lstrip().startswith(("<", "#", "[INST]")):
        return None
    begin = _BEGINS.match(text)
    start = begin.end() if begin else 0
    for form in _TRANSCRIPTS:
        turns, place = [], start
        while found := form.match(text, place):
            turns.append({"role": found["who"].lower(), "content": found["text"]})
            place = found.end()
            if place == len(text):
                break
        if turns and not text[place:].strip():
            return turns if any(turn["role"] == "user" or turn["role"] == "human" for turn in turns) else None
    turns = []
    while found := _INSTRUCTED.match(text, start):
        turns += [{"role": "user", "content": found["asked"].strip()}, {"role": "assistant", "content": found["said"]}]
        start = found.end()
    turns = turns[:-1] if turns and not turns[-1]["content"].strip() else turns
    return turns if turns and not text[start:].strip() else None


def _of_columns(value: Mapping[str, Any]) -> object:
    """Turns whose parts stand in lists of one length, as tables hold them."""
    lists = {name: one for name, one in value.items() if isinstance(one, list)}
    if not any(name in lists for name in SPEAKERS) or len({len(one) for one in lists.values()}) != 1:
        return None
    names: Sequence[str] = list(lists)
    return [{name: one for name, one in zip(names, turn, strict=True) if one is not None}
            for turn in zip(*lists.values(), strict=True)]


def _is_pair(turn: Mapping[str, Any]) -> bool:
    if len(turn) != 2 or _speaks(turn):
        return False
    who = [_PAIR.get(str(name)) for name, text in turn.items() if isinstance(text, str)]
    return sorted(filter(None, who)) == ["assistant", "user"]


def _of_pair(pair: Mapping[str, Any]) -> list[dict[str, str]]:
    turns = [{"role": _PAIR[name], "content": text} for name, text in pair.items()]
    return sorted(turns, key=lambda turn: turn["role"], reverse=True)
