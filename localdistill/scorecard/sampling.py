"""Scores of several replies to each item: the chance in items and in replies apart, pass@k, the majority at k, and
scores by how hard an item is to the base. Pure functions of results."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean, variance

from localdistill.scorecard.card import RIGHT, AtK, CategoryScore, ItemResult, SampleResult

FEWEST_FOR_BINS = 4
"""With fewer replies of the base, how hard an item is to it is mostly luck."""
_DRAWS = 500
"""Subsets of replies that a majority is averaged over, where there are more."""
_BINS = ((0.0, "never"), (0.25, "up to 25 %"), (0.5, "up to 50 %"), (0.75, "up to 75 %"), (1.0, "above 75 %"))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` replies is right, from `samples` of which `right` are
    (Chen et al. 2021, "Evaluating large language models trained on code", equation 1)."""
    if not 1 <= k <= samples:
        raise ValueError(f"k is {k} of {samples} replies")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority_at_k(replies: Sequence[SampleResult], k: int) -> float:
    """The score of the answer that most of `k` replies give, on the average over subsets of `replies` (all of them, or
    500 by chance with a fixed seed). Answers that tie share it; replies without an answer have no vote, and where none
    has one the score is 0."""
    count = math.comb(len(replies), k)
    draw = random.Random(k)
    subsets = (combinations(replies, k) if count <= _DRAWS
               else (tuple(draw.sample(replies, k)) for _ in range(_DRAWS)))
    return fmean(map(_voted, subsets))


def _voted(replies: Sequence[SampleResult]) -> float:
    votes = Counter(reply.extracted for reply in replies if reply.extracted)
    most = max(votes.values(), default=0)
    winners = {answer for answer, count in votes.items() if count == most}
    return fmean(fmean(reply.score for reply in replies if reply.extracted == answer) for answer in winners) \
        if winners else 0.0


def doublings(samples: int) -> list[int]:
    """The k that are shown: 1, 2, 4 ... up to `samples`, and `samples` itself."""
    found = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    return found if found[-1] == samples else [*found, samples]


def passed_at(items: Sequence[ItemResult]) -> tuple[AtK, ...]:
    """pass@k over items that each have as many replies; empty where they have one."""
    samples = _samples(items)
    if samples < 2:
        return ()
    right = [sum(reply.score >= RIGHT for reply in item.replies) for item in items]
    return tuple(AtK(k, fmean(pass_at_k(samples, one, k) for one in right), samples >= 2 * k)
                 for k in doublings(samples))


def majorities_at(items: Sequence[ItemResult]) -> tuple[AtK, ...]:
    """The majority at k, of tasks whose grader says what it took for the answer."""
    samples = _samples(items)
    if samples < 3 or not any(reply.extracted for item in items for reply in item.replies):
        return ()
    return tuple(AtK(k, fmean(majority_at_k(item.replies, k) for item in items), samples >= 2 * k)
                 for k in doublings(samples) if k > 2)


def _samples(items: Sequence[ItemResult]) -> int:
    return min((len(item.replies) for item in items), default=0)


def error_parts(items: Sequence[ItemResult]) -> tuple[float, float] | None:
    """Standard error of the mean score from the choice of items, and from the chance in their replies; their squares
    add up to the square of the whole error. None where items have one reply, or there is one item.

    The variance of the items' means holds both: the one between items is what is left of it without the variance
    within an item over its number of replies (Miller 2024, "Adding error bars to evals", section 3)."""
    samples = _samples(items)
    if samples < 2 or len(items) < 2:
        return None
    within = fmean(variance([reply.score for reply in item.replies]) / samples for item in items)
    whole = variance([item.score for item in items])
    return math.sqrt(max(0.0, whole - within) / len(items)), math.sqrt(min(within, whole) / len(items))


def difficulties(items: Sequence[ItemResult]) -> dict[str, str]:
    """Item -> how often the base gets it right; empty where that is not known well enough."""
    if _samples(items) < FEWEST_FOR_BINS:
        return {}
    return {item.prompt_id: next(name for most, name in _BINS if item.score <= most + 1e-9) for item in items}


def by_difficulty(groups: Sequence[Sequence[ItemResult]], bins: Mapping[str, str]) -> tuple[CategoryScore, ...]:
    """Scores over all seeds (one inner sequence each) by `difficulties`, the hardest items first."""
    return tuple(_by_difficulty(groups, bins))


def _by_difficulty(groups: Sequence[Sequence[ItemResult]], bins: Mapping[str, str]) -> Iterator[CategoryScore]:
    for _, name in _BINS:
        scores = [item.score for group in groups for item in group if bins.get(item.prompt_id) == name]
        if scores:
            yield CategoryScore(name, len(scores) // len(groups), fmean(scores))
