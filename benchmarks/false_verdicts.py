"""How often races of arms that are all as good as the base end with a false verdict, and what looks on the way save and
cost: simulated races of four arms, with the seeds of a training moving its true score by 0, 1 or 2 points.

A false verdict is any arm called better or worse than the base, or than another arm, anywhere in a race. Power: one arm
is truly better by some points; beside it the same race looked at once, at its end. No times; needs numpy.

    python -m benchmarks.false_verdicts [--races 10000] [--items 300] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from localdistill.scorecard.looks import FIRST_LOOK, look_at, look_levels
from localdistill.scorecard.statistics import difference_over_seeds, holm, pooled_seed_variance

ALPHA, ARMS = 0.05, ("a", "b", "c", "d")
SPREADS, GAINS = (0.0, 0.01, 0.02), (0.06, 0.10)


@dataclass(frozen=True)
class Ended:
    """One race."""

    signs: dict[str, int]
    """Arm -> 1 better than the base, -1 worse, 0 open."""
    pairs: int
    """Pairs of arms that were told apart."""
    trained: int


class Race:
    """Draws scores as they become needed."""

    def __init__(self, chance: Any, items: int, seeds: int, spread: float, gain: float) -> None:
        self._chance, self._seeds, self._spread = chance, seeds, spread
        self._rates = chance.beta(1.2, 2.0, items)
        self._gains = {arm: gain if arm == ARMS[0] else 0.0 for arm in ARMS}
        self.base = [self._draw(0.0)]
        self.scores: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}

    def _draw(self, shift: float) -> list[float]:
        rates = (self._rates + shift).clip(0.0, 1.0)
        return (self._chance.random(len(rates)) < rates).astype(float).tolist()  # type: ignore[no-any-return]

    def train(self, arm: str) -> None:
        """One more seed."""
        self.scores[arm].append(self._draw(self._gains[arm] + self._chance.normal(0.0, self._spread)))

    def with_looks(self) -> Ended:
        """Train who is still open, and look."""
        still = set(ARMS)
        for seeds in range(1, self._seeds + 1):
            for arm in sorted(still):
                self.train(arm)
            if seeds >= FIRST_LOOK:
                found = look_at(self.scores, self.base, self._seeds, ALPHA)
                still = {arm for arm, look in found.items() if look.sign == 0}
        level = look_levels(self._seeds, ALPHA)[self._seeds]
        return Ended({arm: look.sign for arm, look in found.items()}, self._pairs(level),
                     sum(map(len, self.scores.values())))

    def once(self) -> dict[str, bool]:
        """All seeds of all arms, compared once: who differs from the base."""
        for arm in ARMS:
            while len(self.scores[arm]) < self._seeds:
                self.train(arm)
        spread = _spread(list(self.scores.values()))
        p = holm({arm: difference_over_seeds(found, self.base, spread, second_is_trained=False).p_value
                  for arm, found in self.scores.items()})
        return {arm: value < ALPHA for arm, value in p.items()}

    def _pairs(self, level: float) -> int:
        spread = _spread(list(self.scores.values()))
        p = holm({pair: difference_over_seeds(self.scores[pair[0]], self.scores[pair[1]], spread).p_value
                  for pair in combinations(ARMS, 2)})
        return sum(value < level for value in p.values())


def _spread(arms: Sequence[Sequence[Sequence[float]]]) -> Any:
    return pooled_seed_variance([[sum(seed) / len(seed) for seed in arm] for arm in arms])


def errors(races: int, items: int, seeds: int, spread: float) -> dict[str, Any]:
    """Races without any difference."""
    import numpy

    chance = numpy.random.default_rng(round(1000 * spread) + 7)
    against_base = between = 0
    for _ in range(races):
        ended = Race(chance, items, seeds, spread, 0.0).with_looks()
        against_base += any(ended.signs.values())
        between += ended.pairs > 0
    return {"spread_points": 100 * spread, "races": races, "false_against_base": against_base / races,
            "false_between_arms": between / races}


def power(races: int, items: int, seeds: int, spread: float, gain: float) -> dict[str, Any]:
    """Races in which the first arm is truly better."""
    import numpy

    chance = numpy.random.default_rng(round(1000 * spread) + round(1000 * gain))
    seen = once = trained = 0
    for _ in range(races):
        race = Race(chance, items, seeds, spread, gain)
        ended = race.with_looks()
        trained += ended.trained
        seen += ended.signs[ARMS[0]] > 0
        once += race.once()[ARMS[0]]
    whole = races * seeds * len(ARMS)
    return {"spread_points": 100 * spread, "gain_points": 100 * gain, "races": races, "seen_with_looks": seen / races,
            "seen_at_the_end_alone": once / races, "trainings_saved": 1 - trained / whole,
            "saved_of_the_better_arm": (whole - trained) / (races * seeds)}


def main() -> None:
    """Print a line of JSON per kind of race."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for spread in SPREADS:
        print(json.dumps(errors(asked.races, asked.items, asked.seeds, spread)), flush=True)
    for spread in SPREADS[1:]:
        for gain in GAINS:
            print(json.dumps(power(max(1, asked.races // 10), asked.items, asked.seeds, spread, gain)), flush=True)


if __name__ == "__main__":
    main()
