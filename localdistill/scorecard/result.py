"""The result of a finished run: who won on the target and by how much, what that cost on the guards, in tokens, time
and money, how sure it is, and what would be sensible next. Reads score cards and works out no verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from localdistill.scorecard.card import SEEDS_FOR_FORMATS, ScoreCard
from localdistill.scorecard.model_selection import ArmStanding, Standing, choose_arm, standings_of
from localdistill.scorecard.paper import signed

Outcome = Literal["better", "harm", "cannot tell", "worse", "not compared"]
_MOST_TIMES = 20
"""More items than this many times those that were asked are not worth a suggestion."""


@dataclass(frozen=True)
class ResultRow:
    """One contestant: its figures are means over its seeds."""

    name: str
    format: str
    seeds: tuple[int, ...]
    score: float
    """On the target, 0..1."""
    interval: tuple[float, float]
    """95 %, of that score."""
    seed_scores: tuple[float, ...]
    standing: Standing | None
    """Against the base on the target; None for the base itself."""
    others: tuple[Standing, ...]
    """Against the base on the other tasks, in the order of the recipe; empty for the base."""
    answer_tokens: float
    """Mean reply on the target, reasoning included."""
    trained_tokens: int
    stopped_early: str
    training_s: float | None
    """Of one seed, on average; None of the base, and where it is not known."""
    kept: tuple[str, ...] = ()
    """As in the score card: which weights came out, and why."""


@dataclass(frozen=True)
class Advice:
    """What would be sensible next."""

    text: str
    command: str
    """Without `localdistill` in front; empty where it is no single command."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    outcome: Outcome
    """`better`: an arm may be exported unasked. `harm`: what is better on the target is known to lose elsewhere.
    `cannot tell`: the arm or the guard could not be told from the base. `worse`: every arm is. `not compared`: nothing
    was."""
    arm: str
    """The arm that the sentence speaks of; empty where none was compared."""
    sentence: str
    target: str
    """Name of the target task; empty when every task is a guard."""
    base_scores: tuple[tuple[str, bool, float], ...]
    """(task, is a guard, score of the base), the target first."""
    rows: tuple[ResultRow, ...]
    """The base first, then the arms by their score."""
    scope: str
    """What the verdicts speak of."""
    spent_usd: float | None = None
    """By the whole run; None where that is not known."""
    next: Advice | None = None
    tuned: str = ""
    """Where learning rate, rank and epochs come from; empty where the recipe states them."""
    learned: tuple[str, ...] = ()
    """How far every training knows its rows by heart; empty where none counted."""
    files: tuple[str, ...] = ()
    """Which exported file to take, then what speaks against others; empty where none was measured."""


def result_of_cards(cards: Sequence[ScoreCard], training_s: Mapping[str, float] | None = None, run: str = "",
                    recipe: str = "RECIPE", files: int = 0, spent_usd: float | None = None) -> Result:
    """The result that `cards` amount to. training_s: arm -> seconds of one seed; run, recipe: for commands; files: how
    many the run exported; spent_usd: by the whole run."""
    target = next((card for card in cards if not card.is_guard), None)
    if target is None:
        why = "every task is a guard: nothing says what should get better" if cards else "nothing was evaluated"
        advice = Advice("name a task in the recipe that says what should get better", "")
        return Result("not compared", "", f"No result: {why}.", "", (), (), "", spent_usd, advice)
    others = [card for card in cards if card is not target]
    choice = choose_arm(cards)
    told = _told(choice.arm, choice.candidates, target.task)
    outcome: Outcome = told[0] if told else "not compared"
    candidate = told[1] if told else None
    return Result(
        outcome, candidate.arm if candidate else "", _sentence(outcome, candidate, target), target.task,
        tuple((card.task, card.is_guard, row.score) for card in (target, *others) for row in card.rows
              if row.name == card.base),
        tuple(_rows(target, others, training_s or {})), target.scope, spent_usd,
        _advice(outcome, candidate, target, run, recipe, files))


def _told(best: str, candidates: Sequence[ArmStanding], target: str) -> tuple[Outcome, ArmStanding] | None:
    """What the run came to, and the arm that shows it."""
    if best:
        return "better", next(one for one in candidates if one.arm == best)
    on_target = [(one, _on(one, target)) for one in candidates]
    gained = [one for one, standing in on_target if standing.verdict == "better"]
    if unclear := [one for one in gained if not any(standing.is_harm for standing in one.standings)]:
        return "cannot tell", unclear[0]
    if gained:
        return "harm", gained[0]
    for verdict in ("cannot tell", "worse"):
        if found := [one for one, standing in on_target if standing.verdict == verdict]:
            return ("worse" if verdict == "worse" else "cannot tell"), found[0]
    return None


def _on(candidate: ArmStanding, task: str) -> Standing:
    return next(standing for standing in candidate.standings if standing.task == task and not standing.is_guard)


def _rows(target: ScoreCard, others: Sequence[ScoreCard], training_s: Mapping[str, float]) -> list[ResultRow]:
    rows = sorted(target.rows, key=lambda row: (row.name != target.base, -row.score))
    made = []
    for row in rows:
        standings = () if row.name == target.base else standings_of([target, *others], row.name)
        made.append(ResultRow(
            row.name, row.format, row.seeds, row.score, row.interval, row.seed_scores,
            standings[0] if standings else None, standings[1:], row.mean_answer_tokens, row.trained_tokens,
            row.stopped_early, training_s.get(row.name), row.kept))
    return made


def _sentence(outcome: Outcome, candidate: ArmStanding | None, target: ScoreCard) -> str:
    if candidate is None:
        why = "no arm was measured" if all(row.name == target.base for row in target.rows) else \
            "no arm could be compared with the base"
        return f"No result: {why} on {target.task}."
    mine, arm = _on(candidate, target.task), candidate.arm
    others = [standing for standing in candidate.standings if standing is not mine]
    figures = _figures(mine)
    if mine.verdict == "better":
        harm = [standing for standing in others if standing.is_harm]
        unclear = [standing for standing in others if not standing.is_harmless and not standing.is_harm]
        if harm:
            lost = " and ".join(f"{_points(one)} points on {one.task}" for one in harm)
            return f"{arm} is better on {target.task} ({figures}), and it does harm: {lost}."
        if unclear:
            return (f"{arm} is better on {target.task} ({figures}), but whether it does harm cannot be told: "
                    + "; ".join(map(_unclear, unclear)) + ".")
        return f"{arm} is better than the base on {target.task}: {figures}. {_kept(others)}"
    if outcome == "worse":
        return f"Every arm is worse than the base on {target.task}; the best of them, {arm}: {figures}."
    seen = "" if mine.detectable is None else (
        f" A difference of {100 * mine.detectable:.1f} points or more would have been seen.")
    return f"No arm can be told from the base on {target.task}; the best of them, {arm}: {figures}.{seen}"


def _figures(standing: Standing) -> str:
    """Scores, difference, interval, and the p that decided."""
    scores = "" if standing.score is None or standing.base is None else (
        f"{100 * standing.score:.1f} % against {100 * standing.base:.1f} %, ")
    low, high = standing.interval or (0.0, 0.0)
    p = "" if standing.p_adjusted is None else (
        ", p < 0.001" if standing.p_adjusted < 0.001 else f", p {standing.p_adjusted:.3f}")
    return f"{scores}{_points(standing)} points ({signed(low)} to {signed(high)}{p})"


def _points(standing: Standing) -> str:
    return signed(standing.difference or 0.0)


def _unclear(standing: Standing) -> str:
    if standing.interval is None:
        return f"it was not compared on {standing.task}" + (f" ({standing.why})" if standing.why else "")
    return (f"a loss of up to {-100 * standing.interval[0]:.1f} points on {standing.task} is not ruled out, and "
            f"{100 * (standing.margin or 0.0):g} are allowed")


def _kept(others: Sequence[Standing]) -> str:
    guards = [standing for standing in others if standing.is_guard]
    if not guards:
        return "No guard was run: what it cost elsewhere is not known."
    said = ", ".join(f"{one.task} {_points(one)}, at worst {signed(one.interval[0])}" for one in guards
                     if one.interval is not None)
    return f"The guards hold ({said} points)."


def _advice(outcome: Outcome, candidate: ArmStanding | None, target: ScoreCard, run: str, recipe: str,
            files: int) -> Advice | None:
    if candidate is None:
        return Advice("look at what was measured", f"scores {run}".strip())
    mine = _on(candidate, target.task)
    flips = f"scores {run or 'last'} --flips {candidate.arm}"
    if outcome == "harm":
        return Advice("read what it lost; fewer epochs, a lower learning rate, or short instructions among the "
                      "training rows are what usually helps", flips)
    if outcome == "worse":
        return Advice("read what it wrote; the learning rate, the limit on answer tokens and a format that the student "
                      "can hold are the usual causes", flips)
    if outcome == "cannot tell" and mine.verdict == "better":
        return _to_tell_guards(candidate, mine, target.seeds, recipe, flips)
    if outcome == "cannot tell":
        return _to_tell_target(mine, target, recipe, flips)
    if not any(standing.is_guard for standing in candidate.standings):
        return Advice("add a guard task to the recipe, and evaluate again: the models are kept", f"evaluate {recipe}")
    if target.seeds < SEEDS_FOR_FORMATS:
        return Advice(f"train with {SEEDS_FOR_FORMATS} seeds: one says nothing of the format",
                      f"run {recipe} --seeds {SEEDS_FOR_FORMATS}")
    return Advice("talk to it", f"chat {run}".strip()) if files else Advice("export it", f"export {recipe}")


def _to_tell_guards(candidate: ArmStanding, mine: Standing, seeds: int, recipe: str, flips: str) -> Advice:
    unclear = [one for one in candidate.standings if one is not mine and not one.is_harmless]
    needed = [times for one in unclear if (times := _times_for_margin(one)) is not None]
    if len(needed) == len(unclear) and needed and max(needed) <= _MOST_TIMES:
        tasks = ", ".join(one.task for one in unclear)
        return Advice(f"ask about {max(needed):.1f} times as many items of {tasks}, or train more seeds",
                      f"run {recipe} --seeds {SEEDS_FOR_FORMATS}" if seeds < SEEDS_FOR_FORMATS else "")
    return Advice("read what it lost: no reasonable number of items would clear it", flips)


def _times_for_margin(standing: Standing) -> float | None:
    """How many times the items would show that a guard holds, if the difference stayed what it is; None where no number
    would. An interval's reach shrinks with the root of the items."""
    if standing.interval is None or standing.difference is None:
        return None
    room = standing.difference + (standing.margin or 0.0)
    return ((standing.difference - standing.interval[0]) / room) ** 2 * 1.1 if room > 0 else None


def _to_tell_target(mine: Standing, target: ScoreCard, recipe: str, flips: str) -> Advice:
    if mine.difference and mine.detectable and mine.difference > 0:
        times = (mine.detectable / mine.difference) ** 2
        if times <= _MOST_TIMES:
            more = f"run {recipe} --seeds {SEEDS_FOR_FORMATS}" if target.seeds < SEEDS_FOR_FORMATS else ""
            return Advice(f"if the difference is real, about {ceil(times * target.items):,} items would show it (now "
                          f"{target.items:,}); more seeds help too", more)
    return Advice("read what turned; more or better traces change more than another evaluation", flips)
