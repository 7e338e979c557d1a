"""What tuning decides, without training anything: the rate that it starts from, what a range test says, and which tries
of a successive halving fit into a time. Pure: the same outcomes lead to the same choice.

Sources: LoRA Without Regret (Schulman and Thinking Machines, 2025) for the rule; Smith, arXiv 1506.01186, for the range
test; Jamieson and Talwalkar, arXiv 1502.07943, for successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import sqrt
from statistics import fmean

from localdistill.core.durations import estimate_text
from localdistill.core.stored import Stored

TUNING_FILE = "tuning.json"
"""Inside the artifact: a `TuningResult`."""
FULL_RATE, LORA_FACTOR = 5e-5, 10.0
"""The rate of full fine-tuning at a width of 2,000, and what LoRA takes in its place."""
WIDTH, EXPONENT = 2000, 0.781
"""The source fits 0.781 for Llama and 0.0775 for Qwen: for small students the first agrees with what they want here."""
DECADES = 3.0
"""Of a range test, with the rule in their middle."""
SPREAD = 3.0
"""Between neighbouring rates of the grid."""
SMOOTHING = 0.08
"""Of the steps of a range test, the share over which its losses are smoothed."""
LEAST_FALL = 5.0
"""Times the noise of the smoothed loss, below which it did not fall."""
LEAST_SEEN = 12
"""Steps of a range test, without which nothing is read from it."""
LEAST_STEPS = 20
"""Of a try: fewer say little of a rate."""
LEAST_SHARE = 0.2
"""Of a whole training, which a try of the last rung has at least."""


def rule_of(width: int) -> float:
    """The learning rate that tuning starts from, for LoRA on a student of hidden size `width`: ten times that of full
    fine-tuning, lower for wider students, the same for every rank."""
    return float(FULL_RATE * LORA_FACTOR * (WIDTH / width) ** EXPONENT)


def range_around(rate: float) -> tuple[float, float]:
    """The first and the last rate of a range test."""
    half = 10 ** (DECADES / 2)
    return rate / half, rate * half


@dataclass(frozen=True)
class RangeReading:
    """What a range test says."""

    centre: float
    """The rate in the middle of the grid."""
    told: str
    """How it was found, in words."""


def read_range(rates: Sequence[float], losses: Sequence[float], rule: float) -> RangeReading:
    """The centre of the grid from rate and loss at every step of a range test, where the loss fell: between the rate of
    the steepest fall of the smoothed loss and the one from which it rises. Else the rule."""
    told, width = f"the rule's {rule:.2g}", max(2, round(SMOOTHING * len(losses)))
    if len(losses) < LEAST_SEEN:
        return RangeReading(rule, f"the loss went astray after {len(losses)} steps of the range test: {told} is taken")
    smooth = _smoothed(losses, width)
    turn = min(range(len(smooth)), key=smooth.__getitem__)
    noise = sqrt(fmean((loss - level) ** 2 for loss, level in zip(losses[:turn + 1], smooth)) / (2 * width + 1))
    fall = max(smooth[: turn + 1]) - smooth[turn]
    if fall <= max(LEAST_FALL * noise, 1e-3 * abs(smooth[0])):
        return RangeReading(rule, f"the loss did not fall in the range test: {told} is taken")
    span = max(1, width // 2)
    steepest = min(range(turn + 1), key=lambda at: smooth[min(at + span, turn)] - smooth[max(at - span, 0)])
    centre = sqrt(rates[steepest] * rates[turn])
    end = "rises from" if turn < len(smooth) - 1 else "still falls at"
    return RangeReading(centre, f"the loss falls fastest at {rates[steepest]:.2g} and {end} {rates[turn]:.2g}")


def _smoothed(values: Sequence[float], width: int) -> list[float]:
    """Means over `width` values on either side, fewer at both ends."""
    return [fmean(values[max(0, at - width): at + width + 1]) for at in range(len(values))]


@dataclass(frozen=True)
class Setting:
    """What one try trains with."""

    learning_rate: float
    rank: int
    epochs: float

    def told(self) -> str:
        """In words."""
        return f"{self.learning_rate:.2g}, rank {self.rank}, {self.epochs:g} epochs"


def grid(centre: float, rates: int, ranks: Sequence[int], epochs: Sequence[float]) -> list[Setting]:
    """All settings, those next to the centre first: what does not fit into the time is taken from the end."""
    steps = sorted(range(-((rates - 1) // 2), rates // 2 + 1), key=lambda step: (abs(step), step))
    found = [float(f"{centre * SPREAD ** step:.2g}") for step in steps]
    return [Setting(*one) for one in product(found, ranks, epochs)]


@dataclass(frozen=True)
class Attempt(Stored):
    """What one training of a tuning came to."""

    steps: int
    losses: tuple[float, ...]
    """Of a range test at every step, of a try at its last tenth."""
    rates: tuple[float, ...]
    """At these steps."""
    epochs: float
    """That the steps are."""
    score: float | None
    """On the development items, 0..1, of the last weights; None where it did not get there."""
    seconds: float
    """Of all of it: loading, steps, measurements."""
    training_s: float
    """Of its steps."""
    measured: int = 0
    """How often the items were asked."""
    measuring_s: float = 0.0
    astray: str = ""
    """Why it ended early."""

    @property
    def loss(self) -> float | None:
        """Mean of the losses."""
        return fmean(self.losses) if self.losses else None


@dataclass(frozen=True)
class Try:
    """One line of the table."""

    rung: int
    """From 1."""
    setting: Setting
    steps: int
    loss: float | None
    score: float | None
    seconds: float
    kept: bool
    """It went on to the next rung, or was chosen."""
    astray: str = ""


@dataclass(frozen=True)
class TuningResult(Stored):
    """What a tuning found, and how."""

    arm: str
    """Whose rows were tried."""
    chosen: Setting
    rule: float
    """The rate that it started from."""
    centre: float
    """Of the grid."""
    told: tuple[str, ...]
    """How centre, tries and choice came about, in words; what did not fit is among it."""
    tries: tuple[Try, ...]
    seconds: float
    """Of the range test and all tries."""
    tuned: tuple[str, ...] = ("learning_rate",)
    """The options that were chosen."""

    def options(self) -> dict[str, float]:
        """What was chosen, as options of the trainer."""
        return {name: getattr(self.chosen, name) for name in self.tuned}

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known beside the table."""
        astray = (one for one in self.tries if one.astray)
        return (*self.told, *(f"{one.setting.told()} in rung {one.rung}: {one.astray}" for one in astray))

    @property
    def line(self) -> str:
        """In one line."""
        more = "".join(f", {text}" for name, text in (("rank", f"rank {self.chosen.rank}"),
                                                      ("epochs", f"{self.chosen.epochs:g} epochs"))
                       if name in self.tuned)
        tries = "1 try" if len(self.tries) == 1 else f"{len(self.tries)} tries"
        return (f"learning rate {self.chosen.learning_rate:.1e}{more} by tuning on {self.arm}: {tries}, "
                f"{estimate_text(self.seconds)}")


@dataclass(frozen=True)
class Cost:
    """How fast a try is."""

    step_s: float
    fixed_s: float
    """Of one try, whatever its length: loading, and asking the development items once."""

    @classmethod
    def of(cls, attempts: Sequence[Attempt]) -> Cost:
        """As these came to."""
        steps, measured = sum(one.steps for one in attempts), sum(one.measured for one in attempts)
        loading = fmean(max(0.0, one.seconds - one.training_s - one.measuring_s) for one in attempts)
        return cls(sum(one.training_s for one in attempts) / max(1, steps),
                   loading + sum(one.measuring_s for one in attempts) / max(1, measured))

    def seconds(self, steps: Sequence[int]) -> float:
        """Of tries of so many steps each."""
        return sum(self.fixed_s + self.step_s * count for count in steps)


@dataclass(frozen=True)
class Rungs:
    """A plan of a successive halving."""

    sizes: tuple[int, ...]
    """Tries of every rung."""
    shares: tuple[float, ...]
    """Of a whole training, that a try of each rung has."""

    def steps(self, rung: int, length: int) -> int:
        """Of a try in the 0-based `rung` whose whole training has `length` steps."""
        return min(length, max(LEAST_STEPS, round(self.shares[rung] * length)))

    def seconds(self, lengths: Sequence[int], cost: Cost) -> float:
        """Of all tries, if the longest of each rung went on. lengths: whole trainings of the settings."""
        longest = sorted(lengths, reverse=True)
        return sum(cost.seconds([self.steps(rung, length) for length in longest[:size]])
                   for rung, size in enumerate(self.sizes))


def rungs_of(count: int, factor: int, share: float) -> Rungs:
    """Rungs for `count` settings of which each keeps one of `factor`, until one is left; tries of the last rung have
    `share` of a whole training, those before it a `factor`-th of the next."""
    sizes = [count]
    while (fewer := math.ceil(sizes[-1] / factor)) > 1:
        sizes.append(fewer)
    return Rungs(tuple(sizes), tuple(share / factor ** (len(sizes) - 1 - rung) for rung in range(len(sizes))))


def rungs_within(lengths: Sequence[int], cost: Cost, seconds: float, factor: int) -> Rungs | None:
    """The plan that fits into the time with the most settings, from the front, and then the longest tries; None where
    not even two fit. lengths: steps of the whole training of every setting."""
    for count in range(len(lengths), 1, -1):
        for tenth in range(10, round(10 * LEAST_SHARE) - 1, -1):
            plan = rungs_of(count, factor, tenth / 10)
            if plan.seconds(lengths[:count], cost) <= seconds:
                return plan
    return None


@dataclass
class Halving:
    """One successive halving: what it decided, in `tries` and `told`."""

    length: Callable[[Setting], int]
    """Steps of the whole training of a setting."""
    attempt: Callable[[int, Setting, int], Attempt]
    """Trains a setting for so many steps, in the 1-based rung; remembers what it did."""
    factor: int
    tries: list[Try] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def choose(self, settings: Sequence[Setting], cost: Cost, seconds: float) -> Setting:
        """The best of `settings`; the first where there is no time to try two. cost: of a try, before the first."""
        lengths = [self.length(one) for one in settings]
        plan = rungs_within(lengths, cost, seconds, self.factor)
        if plan is None:
            if len(settings) > 1:
                least = rungs_of(2, self.factor, LEAST_SHARE).seconds(lengths[:2], cost)
                self.told.append(f"nothing was tried: two tries take about {estimate_text(least)}, and "
                                 f"{estimate_text(max(0.0, seconds))} were left; the first setting is taken")
            return settings[0]
        if left_out := settings[plan.sizes[0]:]:
            self.told.append(f"{len(left_out)} of {len(settings)} settings did not fit into the time and were not "
                             f"tried: {'; '.join(one.told() for one in left_out)}")
        if plan.shares[-1] < 1:
            self.told.append(f"a try of the last rung is {100 * plan.shares[-1]:.0f} % of a whole training: more do "
                             "not fit into the time")
        alive = list(settings)
        for rung, size in enumerate(plan.sizes):
            alive = alive[:size]
            if rung and cost.seconds([plan.steps(rung, self.length(one)) for one in alive[:2]]) > seconds:
                self.told.append(f"the time was over before rung {rung + 1}: tries took longer than was foreseen")
                break
            done = self._rung(alive, plan, rung, seconds)
            seconds -= sum(one.seconds for one in done.values())
            cost = Cost.of([*done.values()])
            ranked = sorted(done, key=lambda one: _rank(done[one]))
            kept = ranked[: (*plan.sizes, 1)[rung + 1]]
            self.tries += [_line(rung + 1, one, done[one], one in kept) for one in ranked]
            alive = kept
        return self._chosen(alive[0])

    def _rung(self, alive: Sequence[Setting], plan: Rungs, rung: int, seconds: float) -> dict[Setting, Attempt]:
        """The tries of a rung, at least two, and no more than fit into the time: those that come last are left out."""
        done: dict[Setting, Attempt] = {}
        for one in alive:
            took = [tried.seconds for tried in done.values()]
            if len(took) > 1 and sum(took) + max(took) > seconds:
                self.told.append(f"the time was over in rung {rung + 1}: tries took longer than was foreseen; not "
                                 f"tried there: {'; '.join(left.told() for left in alive[len(took):])}")
                break
            done[one] = self.attempt(rung + 1, one, plan.steps(rung, self.length(one)))
        return done

    def _chosen(self, setting: Setting) -> Setting:
        """The one that is left; of its rung nothing else was kept."""
        last = self.tries[-1].rung
        self.tries = [replace(one, kept=one.setting == setting) if one.rung == last else one for one in self.tries]
        rates = {one.setting.learning_rate for one in self.tries}
        if len(rates) > 1 and (end := {min(rates): "lowest", max(rates): "highest"}.get(setting.learning_rate)):
            self.told.append(f"{setting.learning_rate:.2g} is the {end} rate that was tried: a better one may lie "
                             "beyond, more rates would tell")
        if all(one.astray for one in self.tries if one.rung == last):
            self.told.append("every try of the last rung went astray: lower the rates by hand")
        return setting


def _rank(one: Attempt) -> tuple[bool, float, float]:
    """What is better comes first: not astray, by the score, by the loss."""
    return bool(one.astray) or one.score is None, -(one.score or 0.0), math.inf if one.loss is None else one.loss


def _line(rung: int, setting: Setting, one: Attempt, kept: bool) -> Try:
    return Try(rung, setting, one.steps, one.loss, one.score, one.seconds, kept, one.astray)
