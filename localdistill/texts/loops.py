"""Repetition detection: sees that a text goes round in circles, early and cheaply. Must never take slow progress for
a circle: only a block of tokens that is repeated exactly counts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

CHECK_EVERY_TOKENS = 16
LEAST_LOOP_TOKENS = 160
_LONGEST_BLOCK_TOKENS = 512
_REPEATS_BY_BLOCK = ((64, 4), (32, 5), (0, 8))
"""How often a block of so many tokens or more must stand: a long one is conclusive sooner."""


def is_looping(tokens: Sequence[Hashable]) -> bool:
    """True when the end of `tokens` is one block repeated, over at least 160 tokens: 8 times, 5 times from 32 tokens,
    4 times from 64 tokens per block."""
    count = len(tokens)
    if count < LEAST_LOOP_TOKENS:
        return False
    last, before, third = tokens[-1], tokens[-2], tokens[-3]
    for period in range(1, min(_LONGEST_BLOCK_TOKENS, count // 4 - 1) + 1):
        if tokens[-1 - period] != last or tokens[-2 - period] != before or tokens[-3 - period] != third:
            continue
        repeats = next(least for size, least in _REPEATS_BY_BLOCK if period >= size)
        span = max(LEAST_LOOP_TOKENS, period * repeats)
        if span <= count and tokens[count - span + period :] == tokens[count - span : count - period]:
            return True
    return False
