"""Counts what a text says again: token strings that come back, and the share of its n-grams that do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_EAST = r"\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_TOKEN = re.compile(rf"[{_EAST}]|[^\W{_EAST}]+|[^\w\s]")


def tokens_of(text: str) -> list[str]:
    """Words, marks, and single signs of East Asian scripts: tokens that need no tokenizer."""
    return _TOKEN.findall(text)


def most_repeats(tokens: Sequence[str], size: int) -> int:
    """How often the string of `size` tokens that comes most often is there, overlapping; 0 for fewer tokens."""
    counts = Counter(_strings(tokens, size))
    return max(counts.values(), default=0)


def repeated_share(tokens: Sequence[str], size: int) -> float:
    """Of all strings of `size` tokens the share that was there before; 0 for fewer tokens."""
    strings = _strings(tokens, size)
    return 1 - len(set(strings)) / len(strings) if strings else 0.0


def _strings(tokens: Sequence[str], size: int) -> list[int]:
    return [hash(tuple(tokens[start:start + size])) for start in range(len(tokens) - size + 1)]
