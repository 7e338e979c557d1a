"""What rows of tokens have in common at their start, and which are worth to be read together for it. Must not know what
the tokens say. Loads no library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

SHORTEST_SHARED_PREFIX = 32
"""A common beginning of so many tokens is worth to be read apart."""

Ids = tuple[int, ...]


def families(prefixes: Iterable[Ids], branches: bool) -> Iterator[tuple[list[Ids], int]]:
    """Different `prefixes` by what they have in common: members, and so many tokens at the start of all. Each keeps a
    token of its own: what is predicted behind it comes of reading that."""
    members: list[Ids] = []
    common = 0
    for prefix in sorted(prefixes):
        shared = min(common, common_length(members[-1], prefix), len(prefix) - 1) if branches and members else 0
        if shared >= SHORTEST_SHARED_PREFIX and 2 * shared >= len(prefix):
            common = shared
        else:
            if members:
                yield members, common
            members, common = [], len(prefix) - 1
        members.append(prefix)
    if members:
        yield members, common


def common_length(left: Sequence[int], right: Sequence[int], limit: int | None = None) -> int:
    """Length of the common beginning, at most `limit`."""
    shorter = min(len(left), len(right)) if limit is None else min(len(left), len(right), limit)
    if left[:shorter] == right[:shorter]:
        return shorter
    return bisect_left(range(shorter), True, key=lambda n: left[: n + 1] != right[: n + 1])
