"""Which prompts the arms of a race train on, and how much each row counts: the prompts that every arm can serve, each
counting once per epoch in every arm however many rows it has there; and where the parts of an arm have shares, which
part serves which prompt. Pure; must not know rows or the store."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor

from localdistill.core.errors import UsageError


@dataclass(frozen=True)
class Unit:
    """A row, or a group of rows that stay together."""

    weight: float = 1.0
    """Beside the other units of its prompt."""
    epoch: int | None = None
    """The only epoch that sees it; None is every."""


@dataclass(frozen=True)
class Offer:
    """What one part of an arm can train on."""

    name: str
    units: Mapping[str, Sequence[Unit]]
    """Prompt -> what it makes of it."""
    share: float | None = None
    """Of the arm's prompts; None where every prompt takes part in every part that can serve it."""
    weight: float = 1.0


@dataclass(frozen=True)
class Match:
    """What one arm trains on."""

    weights: tuple[Mapping[str, Sequence[float]], ...]
    """Per part: prompt -> what each of its units counts."""
    several: int
    """Prompts of which several units serve in one epoch."""
    wanting: tuple[str, ...] = ()
    """Shares that could not be filled, in words."""


def match(arms: Mapping[str, Sequence[Offer]], seed: int) -> tuple[set[str], dict[str, Match]]:
    """The prompts that all arms train on, and what each arm does with them. A share that cannot be filled leaves
    prompts out of every arm, so that shares stay exact and arms comparable."""
    for name, parts in arms.items():
        _check_shares(name, parts)
    prompts = set.intersection(*(set[str]().union(*(part.units for part in parts)) for parts in arms.values()))
    wanting: dict[str, tuple[str, ...]] = {}
    shared = {name: parts for name, parts in arms.items() if parts[0].share is not None}
    while True:
        given: dict[str, list[set[str]]] = {}
        for name, parts in shared.items():
            given[name], said = _hand_out(parts, prompts, seed)
            wanting[name] = wanting.get(name, ()) or said
        left = set.intersection(prompts, *(set[str]().union(*own) for own in given.values()))
        if left == prompts:
            break
        prompts = left
    matched = {}
    for name, parts in arms.items():
        own = given.get(name) or [prompts.intersection(part.units) for part in parts]
        matched[name] = _weigh(parts, own, wanting.get(name, ()))
    return prompts, matched


def _check_shares(arm: str, parts: Sequence[Offer]) -> None:
    shares = [part.share for part in parts if part.share is not None]
    if shares and len(shares) < len(parts):
        raise UsageError(f"arm '{arm}': some of its parts have a share and some have none",
                         "give every part a share, or none")
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"arm '{arm}': the shares of its parts add up to {sum(shares):g}, not to 1", "")
    if shares and min(shares) <= 0:
        raise UsageError(f"arm '{arm}': a part has a share of {min(shares):g}", "leave such a part out")


# ---- shares

def _hand_out(parts: Sequence[Offer], prompts: set[str], seed: int) -> tuple[list[set[str]], tuple[str, ...]]:
    """Each part's own prompts, in exact shares of as many as can be, and which shares fall short."""
    shares = [part.share or 0.0 for part in parts]
    by_mask: dict[int, list[str]] = {}
    for prompt in sorted(prompts):
        by_mask.setdefault(sum(1 << n for n, part in enumerate(parts) if prompt in part.units), []).append(prompt)
    counts = {mask: len(own) for mask, own in by_mask.items()}
    total = len(prompts)
    while not _can_fill(counts, quotas(shares, total)):
        total -= max(1, _too_many(counts, quotas(shares, total)))
    wanting: list[str] = []
    if total < len(prompts):
        for number, (part, wanted) in enumerate(zip(parts, quotas(shares, len(prompts)), strict=True)):
            offered = sum(count for mask, count in counts.items() if mask >> number & 1)
            if offered < wanted:
                wanting.append(f"part '{part.name}' can serve {offered:,} of the {wanted:,} prompts that its share of "
                               f"{part.share:g} comes to")
        wanting = [*(wanting or ["its parts can serve too few prompts besides each other"]),
                   f"so it trains on {total:,} of {len(prompts):,} prompts, and every arm with it"]
    amounts = _fill(counts, quotas(shares, total))
    draw, given = random.Random(f"{seed}/shares"), [set[str]() for _ in parts]
    for mask, own in sorted(by_mask.items()):
        draw.shuffle(own)
        start = 0
        for number, amount in enumerate(amounts[mask]):
            given[number].update(own[start:start + amount])
            start += amount
    return given, tuple(wanting)


def quotas(shares: Sequence[float], total: int) -> list[int]:
    """`total` in these shares, as whole numbers: the largest remainders are rounded up."""
    exact = [share * total for share in shares]
    found = [floor(value + 1e-9) for value in exact]
    order = sorted(range(len(shares)), key=lambda n: (found[n] - exact[n], n))
    for number in order[:total - sum(found)]:
        found[number] += 1
    return found


def _subsets(parts: int) -> Iterable[int]:
    return range(1, 1 << parts)


def _too_many(counts: Mapping[int, int], wanted: Sequence[int]) -> int:
    """By how much some parts together want more than there is for them."""
    return max(sum(amount for n, amount in enumerate(wanted) if some >> n & 1)
               - sum(count for mask, count in counts.items() if mask & some) for some in _subsets(len(wanted)))


def _can_fill(counts: Mapping[int, int], wanted: Sequence[int]) -> bool:
    """Hall's condition: no set of parts wants more than the prompts that any of them can serve."""
    return _too_many(counts, wanted) <= 0


def _fill(counts: Mapping[int, int], wanted: Sequence[int]) -> dict[int, list[int]]:
    """How many prompts of each kind (the set of parts that can serve it, as bits) go to each part: a maximum flow along
    augmenting paths. `wanted` can be filled."""
    flow, left = {mask: [0] * len(wanted) for mask in counts}, dict(counts)
    for part, need in enumerate(wanted):
        while need:
            end, mask, came = _path(part, flow, left)
            steps, at = [], end
            while at != part:
                steps.append((at, *came[at]))
                at = came[at][0]
            amount = min([need, left[mask], *(flow[via][loser] for loser, _, via in steps)])
            flow[mask][end] += amount
            left[mask] -= amount
            for loser, taker, via in steps:
                flow[via][loser] -= amount
                flow[via][taker] += amount
            need -= amount
    return flow


def _path(part: int, flow: Mapping[int, Sequence[int]],
          left: Mapping[int, int]) -> tuple[int, int, Mapping[int, tuple[int, int]]]:
    """From `part` to prompts that are left: the last part and their kind, and for each part on the way which part takes
    over prompts of which kind from it."""
    came: dict[int, tuple[int, int]] = {}
    todo = [part]
    for at in todo:
        for mask in flow:
            if not mask >> at & 1:
                continue
            if left[mask]:
                return at, mask, came
            for other, amount in enumerate(flow[mask]):
                if amount and other != part and other not in came:
                    came[other] = at, mask
                    todo.append(other)
    raise AssertionError("the parts want more than there is")


# ---- weights

def _weigh(parts: Sequence[Offer], given: Sequence[set[str]], wanting: tuple[str, ...]) -> Match:
    """What each unit counts: a prompt's units share one weight, by part and by what they say of themselves."""
    together: dict[str, float] = {}
    for part, own in zip(parts, given, strict=True):
        for prompt in own:
            together[prompt] = together.get(prompt, 0.0) + part.weight
    weights: list[dict[str, list[float]]] = []
    held: Counter[str] = Counter()
    for part, own in zip(parts, given, strict=True):
        weights.append({})
        for prompt in own:
            units = part.units[prompt]
            beside = [_seen_with(unit, units) for unit in units]
            of_part = part.weight / together[prompt] if part.share is None else part.weight
            weights[-1][prompt] = [of_part * unit.weight / total for unit, total in zip(units, beside, strict=True)]
            held[prompt] += max(sum(_meet(unit, other) for other in units) for unit in units)
    values = {round(value, 12) for own in weights for units in own.values() for value in units}
    if len(values) == 1:  # what all share is no weight
        weights = [{prompt: [1.0] * len(units) for prompt, units in own.items()} for own in weights]
    return Match(tuple(weights), sum(count > 1 for count in held.values()), wanting)


def _meet(one: Unit, other: Unit) -> bool:
    return one.epoch is None or other.epoch is None or one.epoch == other.epoch


def _seen_with(unit: Unit, units: Sequence[Unit]) -> float:
    """What the units that an epoch sees beside `unit` count together; of the fullest epoch where it is in all."""
    if unit.epoch is not None:
        return sum(other.weight for other in units if _meet(unit, other))
    always = sum(other.weight for other in units if other.epoch is None)
    epochs = {other.epoch for other in units} - {None}
    return always + max((sum(other.weight for other in units if other.epoch == epoch) for epoch in epochs), default=0.0)
