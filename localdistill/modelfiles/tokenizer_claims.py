"""A tokenizer.json read as if it were hostile: the library that runs it makes lists as long as its largest id, grows
text as often as it is told to, and ends the process when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.config_claims import shown
from localdistill.safety.bounded_json import TOKENIZER, read_table

NAME = "tokenizer.json"
_PIPELINES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_MOST_PARTS = 64
"""Steps that a text may go through."""
_MOST_GROWTH = 64
"""How many times longer replacements, one behind the other, may make a text."""
_MOST_PATTERN = 4_096
"""Characters of a pattern to split by; of real ones the longest have some 400."""
_FREE_IDS = 65_536


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """The table in `tokenizer.json` of a model folder. What it says of added tokens and of the ids of all can be relied
    on; the rest is for the library to judge. Raises ModelFileError."""
    path = folder / NAME
    try:
        data = read_table(path, TOKENIZER)
    except FileNotFoundError:
        raise ModelFileError(f"{folder} has no {NAME}",
                             "use a model with a fast tokenizer (a tokenizer.json beside its weights)") from None
    if wrong := _wrong_claim(data):
        raise ModelFileError(f"{path}: {wrong}", "download the tokenizer again")
    return data


def _wrong_claim(data: Mapping[str, Any]) -> str:
    model, added = data.get("model"), data.get("added_tokens") or []
    if not isinstance(model, dict):
        return "model is no table"
    if not isinstance(added, list):
        return "added_tokens is no list"
    for entry in added:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not _is_whole(entry.get("id")):
            return "an entry of added_tokens has no content, or no id that is a whole number"
    vocabulary = model.get("vocab") or {}
    if not isinstance(vocabulary, (dict, list)):
        return "model.vocab is neither a table nor a list"
    ids = [*(entry["id"] for entry in added), *(vocabulary.values() if isinstance(vocabulary, dict) else ())]
    most = 2 * (len(vocabulary) + len(added)) + _FREE_IDS
    wrong = next((one for one in ids if not _is_whole(one) or not 0 <= one < most), None)
    if wrong is not None or None in ids:
        return f"a token has the id {shown(wrong)}, and there are {len(vocabulary) + len(added):,} tokens"
    return _wrong_steps(data)


def _wrong_steps(data: Mapping[str, Any]) -> str:
    for name in _PIPELINES:
        steps, growth = list(_tables(data.get(name))), 1
        if sum("type" in step for step in steps) > _MOST_PARTS:
            return f"{name} has more than {_MOST_PARTS} steps"
        for step in steps:
            pattern, content = step.get("pattern"), step.get("content")
            text = next(iter(pattern.values()), "") if isinstance(pattern, dict) else pattern
            if isinstance(text, str) and len(text) > _MOST_PATTERN:
                return f"{name} has a pattern of {len(text):,} characters"
            growth *= max(1, len(content)) if isinstance(content, str) else 1
        if growth > _MOST_GROWTH:
            return f"{name} makes a text {growth:,} times longer, or nearly so" if growth < 10**9 else \
                f"{name} makes a text a thousand million times longer"
    return ""


def _tables(value: object) -> Iterator[dict[str, Any]]:
    """Every table in `value`, itself included."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _tables(inner)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
