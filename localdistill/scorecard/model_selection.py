"""Model selection with guards: how each arm stands against the base on every task, and which arm may be exported
unasked. Reads the verdicts of score cards and works out nothing of its own; it knows no arm by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localdistill.scorecard.card import Comparison, ScoreCard, ScoreRow

Against = Literal["better", "worse", "cannot tell", "not compared"]


@dataclass(frozen=True)
class Standing:
    """One arm beside the base on one task."""

    task: str
    is_guard: bool
    verdict: Against
    """`not compared`: nobody knows, which is never taken for harmless."""
    base: float | None = None
    """Score of the untrained student, 0..1; None when it was not measured."""
    score: float | None = None
    """Score of the arm, over its seeds."""
    difference: float | None = None
    interval: tuple[float, float] | None = None
    """95 %, of the difference."""
    why: str = ""
    """Why it was not compared."""
    p_adjusted: float | None = None
    """That decided the verdict, after Holm; None where nothing was compared, or an older version did not keep it."""
    detectable: float | None = None
    """Smallest true difference that the comparison finds with 80 % probability."""
    margin: float | None = None
    """Of a guard: what may be lost, 0..1. None of a target, and in what older versions kept."""

    @property
    def holds(self) -> bool:
        """Whether a guard is shown to keep its score up to the margin: the whole interval lies above minus that. What
        was not compared is never taken for harmless."""
        return self.interval is not None and self.interval[0] > -(self.margin or 0.0)

    @property
    def is_harm(self) -> bool:
        """Whether the arm is known to be worse here, and not to hold as a guard does."""
        return self.verdict == "worse" and not (self.is_guard and self.holds)

    @property
    def is_harmless(self) -> bool:
        """Whether nothing here speaks against the arm: a guard holds, another target is not worse."""
        return self.holds if self.is_guard else self.verdict in ("better", "cannot tell")

    @property
    def sentence(self) -> str:
        """The verdict in words, for example `worse on stories (-4.0 points)`."""
        where = f"{self.task}{' (guard)' if self.is_guard else ''}"
        if self.verdict == "not compared":
            return f"not compared with the base on {where}" + (f": {self.why}" if self.why else "")
        points = f"({100 * (self.difference or 0.0):+.1f} points)"
        said = {"better": "better on", "worse": "worse on"}.get(self.verdict, "cannot be told from the base on")
        lost = -100 * self.interval[0] if self.interval else 0.0
        is_open = self.is_guard and self.margin is not None and not self.holds and self.verdict != "worse"
        return f"{said} {where} {points}" + (f", where a loss of up to {lost:.1f} is not ruled out" if is_open else "")


@dataclass(frozen=True)
class ArmStanding:
    """One arm, how it stands everywhere, and whether that is good enough."""

    arm: str
    standings: tuple[Standing, ...]
    may_export: bool

    @property
    def sentence(self) -> str:
        """How it stands, in words."""
        return f"{self.arm}: " + ", ".join(standing.sentence for standing in self.standings)


@dataclass(frozen=True)
class Choice:
    """What `best` means for a run."""

    arm: str
    """Empty when no arm is good enough."""
    reason: str
    """In a sentence: why this arm, or why none."""
    candidates: tuple[ArmStanding, ...]
    """Every arm, the one with the highest score on the target first."""


def choose_arm(cards: Sequence[ScoreCard]) -> Choice:
    """The best arm that is better than the base on the target - the first task that is no guard -, holds on every
    guard, and is neither worse nor uncompared on any other target. Of several the highest score wins; of equals the one
    that lost least elsewhere, then the shorter replies, then the order of the recipe."""
    target = next((card for card in cards if not card.is_guard), None)
    if target is None:
        return Choice("", "no task says what should get better: every task is a guard" if cards else
                      "there is no score card", ())
    rows = sorted((row for row in target.rows if row.name != target.base), key=lambda row: -row.score)
    candidates = tuple(_candidate(row.name, cards, target) for row in rows)
    good = [candidate for candidate in candidates if candidate.may_export]
    if not good:
        return Choice("", _why_none(candidates, target), candidates)
    best = max(good, key=lambda candidate: _rank(candidate, target))
    return Choice(best.arm, _reason(best, good, target), candidates)


def is_settled(cards: Sequence[ScoreCard], arm: str) -> bool:
    """Whether more seeds of `arm` would decide nothing: it is worse on a target, or every target is decided, and every
    guard shown to hold or to be lost."""
    standings = standings_of(cards, arm)
    targets, guards = ([one for one in standings if one.is_guard == wanted] for wanted in (False, True))
    return any(one.verdict == "worse" for one in targets) or (
        all(one.verdict == "better" for one in targets) and all(one.holds or one.verdict == "worse" for one in guards))


def standings_of(cards: Sequence[ScoreCard], arm: str) -> tuple[Standing, ...]:
    """How `arm` stands against the base on every task."""
    return tuple(_standing(card, arm) for card in cards)


def cautions(standings: Sequence[Standing]) -> list[str]:
    """What speaks against an arm or is not known of it, in words."""
    if not standings:
        return ["it was not compared with the base: the recipe evaluates nothing"]
    found = [standing.sentence for standing in standings if standing.verdict in ("worse", "not compared")]
    targets = [standing for standing in standings if not standing.is_guard]
    if targets and targets[0].verdict == "cannot tell":
        found.append(targets[0].sentence)
    for standing in standings:
        if standing.is_guard and standing.verdict == "cannot tell" and not standing.holds and standing.interval:
            found.append(f"a loss of up to {-100 * standing.interval[0]:.1f} points on {standing.task} (guard) is not "
                         "ruled out")
    if not any(standing.is_guard for standing in standings):
        found.append("no guard task was run: what the training cost elsewhere is not known")
    return found


def _candidate(arm: str, cards: Sequence[ScoreCard], target: ScoreCard) -> ArmStanding:
    standings = standings_of(cards, arm)
    wanted = next(standing for card, standing in zip(cards, standings, strict=True) if card is target)
    return ArmStanding(arm, standings, wanted.verdict == "better" and all(one.is_harmless for one in standings))


def _why_none(candidates: Sequence[ArmStanding], target: ScoreCard) -> str:
    if not candidates:
        return "no arm was measured"
    margins = [standing.margin for standing in candidates[0].standings if standing.margin is not None]
    return (f"no arm is better than the base on {target.task} and no worse anywhere else"
            + (f": a guard may lose {100 * margins[0]:g} points, and that must be shown" if margins else ""))


def _standing(card: ScoreCard, arm: str) -> Standing:
    rows = {row.name: row for row in card.rows}
    mine, base = rows.get(arm), rows.get(card.base)
    known: dict[str, Any] = {"base": base.score if base else None, "score": mine.score if mine else None}
    entry = _against_base(card, arm)
    if entry is None:
        return Standing(card.task, card.is_guard, "not compared", **known, why=_why(mine, base))
    return Standing(card.task, card.is_guard, entry.verdict, **known, difference=entry.difference,
                    interval=entry.interval, p_adjusted=entry.p_adjusted, detectable=entry.detectable,
                    margin=card.margin if card.is_guard else None)


def _against_base(card: ScoreCard, arm: str) -> Comparison | None:
    return next((entry for entry in card.comparisons
                 if entry.family == "base" and (entry.first, entry.second) == (arm, card.base)), None)


def _why(mine: ScoreRow | None, base: ScoreRow | None) -> str:
    if mine is None:
        return "it was not measured"
    if base is None:
        return "the base was not measured"
    return f"its training was stopped early ({mine.stopped_early})" if mine.stopped_early else ""


def _rank(candidate: ArmStanding, target: ScoreCard) -> tuple[float, float, float]:
    row = target.row(candidate.arm)
    elsewhere = [standing.difference or 0.0 for standing in candidate.standings if standing.task != target.task]
    return row.score, min(elsewhere, default=0.0), -row.mean_answer_tokens


def _reason(best: ArmStanding, good: Sequence[ArmStanding], target: ScoreCard) -> str:
    level = [other.arm for other in good if other is not best and not _beats(best.arm, other.arm, target)]
    beside = f"; {', '.join(level)} would do too and cannot be told from it" if level else ""
    return f"{best.sentence}{beside}"


def _beats(first: str, second: str, target: ScoreCard) -> bool:
    """True when the card says that `first` is better than `second`, whichever way round it compared them."""
    return any((entry.first, entry.second, entry.verdict) in ((first, second, "better"), (second, first, "worse"))
               for entry in target.comparisons)
