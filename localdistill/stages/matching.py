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
class Bundle:
    """A row, or a group of rows that stay together."""

    weight: float = 1.0
    """Beside the other bundles of its prompt."""
    epoch: int | None = None
    """The only epoch that sees it; None is every."""


@dataclass(frozen=True)
class Offer:
    """What one part of an arm can train on."""

    name: str
    bundles: Mapping[str, Sequence[Bundle]]
    """Prompt -> what it makes of it."""
    share: float | None = None
    """Of the arm's prompts; None where every prompt takes part in every part that can serve it."""
    weight: float = 1.0


@dataclass(frozen=True)
class Match:
    """What one arm trains on."""

    weights: tuple[Mapping[str, Sequence[float]], ...]
    """Per part: prompt -> what each of its bundles counts."""
    several: int
    """Prompts of which several bundles serve in one epoch."""
    wanting: tuple[str, ...] = ()
    """Shares that could not be filled, in words."""


def match(arms: Mapping[str, Sequence[Offer]], seed: int) -> tuple[set[str], dict[str, Match]]:
    """The prompts that all arms train on, and what each arm does with them. A share that cannot be filled leaves
    prompts out of every arm, so that shares stay exact and arms comparable."""
    for name, parts in arms.items():
        _check_shares(name, parts)
    prompts = set.intersection(*(set[str]().union(*(part.bundles for part in parts)) for parts in arms.values()))
    served, lacking = len(prompts), dict[str, tuple[str, ...]]()
    shared = {name: parts for name, parts in arms.items() if parts[0].share is not None}
    order = _by_need(shared, prompts, seed)
    while True:
        given: dict[str, list[set[str]]] = {}
        for name, parts in shared.items():
            given[name], said = _hand_out(parts, [prompt for prompt in order if prompt in prompts], seed)
            lacking[name] = lacking.get(name, ()) or said
        left = set.intersection(prompts, *(set[str]().union(*own) for own in given.values()))
        if left == prompts:
            break
        prompts = left
    matched = {}
    for name, parts in arms.items():
        own = given.get(name) or [prompts.intersection(part.bundles) for part in parts]
        wanting = lacking.get(name, ())
        came = f"so it trains on {len(prompts):,} of {served:,} prompts, and every arm with it"
        matched[name] = _weigh(parts, own, (*wanting, came) if wanting else ())
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

def _by_need(arms: Mapping[str, Sequence[Offer]], prompts: set[str], seed: int) -> list[str]:
    """The prompts in the order in which they are kept where an arm cannot train on all: those that any arm has the most
    need of first, so that arms that leave some out agree on them; else by chance."""
    need = dict.fromkeys(sorted(prompts), 0.0)
    for parts in arms.values():
        for part in parts:
            own = prompts.intersection(part.bundles)
            for prompt in own:
                need[prompt] += (part.share or 0.0) / len(own)
    order = list(need)
    random.Random(f"{seed}/prompts").shuffle(order)
    return sorted(order, key=lambda prompt: -round(need[prompt], 12))


def _hand_out(parts: Sequence[Offer], prompts: Sequence[str], seed: int) -> tuple[list[set[str]], tuple[str, ...]]:
    """Each part's own prompts, in exact shares of as many as can be, the first of `prompts` first; and which shares
    fall short."""
    shares = [part.share or 0.0 for part in parts]
    by_mask: dict[int, list[str]] = {}
    for prompt in prompts:
        by_mask.setdefault(sum(1 << n for n, part in enumerate(parts) if prompt in part.bundles), []).append(prompt)
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
        wanting = wanting or ["its parts can serve too few prompts besides each other"]
    amounts = _fill(counts, quotas(shares, total))
    draw, given = random.Random(f"{seed}/shares"), [set[str]() for _ in parts]
    for mask, own in sorted(by_mask.items()):
        own, start = own[:sum(amounts[mask])], 0
        draw.shuffle(own)
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
    """What each bundle counts: a prompt's bundles share one weight, by part and by what they say of themselves."""
    together: dict[str, float] = {}
    for part, own in zip(parts, given, strict=True):
        for prompt in own:
            together[prompt] = together.get(prompt, 0.0) + part.weight
    weights: list[dict[str, list[float]]] = []
    held: Counter[str] = Counter()
    for part, own in zip(parts, given, strict=True):
        weights.append({})
        for prompt in own:
            bundles = part.bundles[prompt]
            beside = [_seen_with(bundle, bundles) for bundle in bundles]
            of_part = part.weight / together[prompt] if part.share is None else part.weight
            weights[-1][prompt] = [of_part * bundle.weight / total
                                   for bundle, total in zip(bundles, beside, strict=True)]
            held[prompt] += max(sum(_meet(bundle, other) for other in bundles) for bundle in bundles)
    values = {round(value, 12) for own in weights for bundles in own.values() for value in bundles}
    if len(values) == 1:  # what all share is no weight
        weights = [{prompt: [1.0] * len(bundles) for prompt, bundles in own.items()} for own in weights]
    return Match(tuple(weights), sum(count > 1 for count in held.values()), wanting)


def _meet(one: Bundle, other: Bundle) -> bool:
    return one.epoch is None or other.epoch is None or one.epoch == other.epoch


def _seen_with(bundle: Bundle, bundles: Sequence[Bundle]) -> float:
    """What the bundles that an epoch sees beside `bundle` count together; of the fullest epoch where it is in all."""
    if bundle.epoch is not None:
        return sum(other.weight for other in bundles if _meet(bundle, other))
    always = sum(other.weight for other in bundles if other.epoch is None)
    epochs = {other.epoch for other in bundles} - {None}
    by_epoch = (sum(other.weight for other in bundles if other.epoch == epoch) for epoch in epochs)
    return always + max(by_epoch, default=0.0)
