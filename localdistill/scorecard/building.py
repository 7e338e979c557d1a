"""Works a score card out: scores of several models on the same items, compared in pairs - who is better, worse, or
cannot be told apart.

Pure: results in, card out. It knows no model, no task and no arm by name. Rules (all printed with the card): the
primary family compares every arm with the base, the second one pairs of arms, Holm inside each; an arm that was stopped
early is shown and never compared; with fewer than three seeds a verdict speaks of the trained models at hand only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from localdistill.core.errors import LocalDistillError
from localdistill.scorecard.card import (
    GUARD_MARGIN,
    RIGHT,
    SEEDS_FOR_FORMATS,
    CategoryScore,
    Comparison,
    ContestantResult,
    FamilyName,
    Flip,
    ItemResult,
    MetricMean,
    ScoreCard,
    ScoreRow,
    Verdict,
)
from localdistill.scorecard.looks import look_at, look_levels
from localdistill.scorecard.sampling import by_difficulty, difficulties, error_parts, majorities_at, passed_at
from localdistill.scorecard.statistics import (
    Interval,
    SeedVariance,
    compare_over_seeds,
    detectable_difference,
    detectable_mean_difference,
    holm,
    mcnemar_exact,
    mean_difference_interval,
    mean_interval_over_seeds,
    paired_difference_interval,
    pooled_seed_variance,
    sign_flip_p,
    wilson_interval,
)
from localdistill.texts.loops import is_looping
from localdistill.texts.repeats import tokens_of

ALPHA = 0.05
FLIPS_KEPT = 50
"""Flips stored per direction and comparison; the counts are always complete."""

_FORMS_SCOPE = ("Forms of one trained model, each against the model as it was trained: a verdict speaks of this form "
                "of this model.")
_FILES_SCOPE = ("Files of one trained model, each against the one that they were made from: a verdict speaks of this "
                "file of this model.")
_BESIDE_SCOPE = ("Forms of one trained model, each against the untrained one: a verdict speaks of this form of this "
                 "model.")


def build_score_card(contestants: Sequence[ContestantResult], base: str, task: str, grader: str,
                     is_guard: bool = False, metrics: Mapping[str, str] | None = None,
                     margin: float = GUARD_MARGIN, sampler: str = "", looks_until: int = 0) -> ScoreCard:
    """Compare `contestants`, of which `base` is the untrained one (it may be absent: then arms are only paired).
    metrics: what each means; margin: what may be lost of the score, 0..1, where the task is a guard; sampler: how
    replies were drawn, in words. looks_until: the seeds per arm of a race that is looked at on its way (see `looks`),
    in which arms may have fewer than others; 0 where it is looked at once.

    Raises LocalDistillError when they did not answer the same items in the same order.
    """
    arms = _by_name(contestants)
    _require_same_items(contestants)
    trained = {name: group for name, group in arms.items() if name != base}
    seeds = min((len(group) for group in trained.values()), default=0)
    ranked = [name for name, group in trained.items() if not any(member.stopped_early for member in group)]
    spread = pooled_seed_variance([[_mean(member) for member in trained[name]] for name in ranked])
    bins = difficulties(arms[base][0].items) if base in arms else {}
    rows = tuple(_row(group, SeedVariance(0.0, 0) if name == base else spread, bins) for name, group in arms.items())
    families: dict[FamilyName, list[tuple[str, str]]] = {
        "base": [(name, base) for name in ranked] if base in arms else [],
        "arms": list(combinations(ranked, 2)),
    }
    comparisons = [comparison for family, pairs in families.items()
                   for comparison in _compare_family(family, pairs, arms, base, spread)]
    scope = _scope(seeds)
    if looks_until and base in arms:
        comparisons = _looked_at(comparisons, arms, base, looks_until)
        scope = _scope_of_looks([len(trained[name]) for name in ranked], looks_until)
    items = len(contestants[0].items) if contestants else 0
    return ScoreCard(task, grader, base, is_guard, items, seeds, rows, tuple(comparisons), scope,
                     metrics=_meanings(rows, metrics), margin=margin, sampler=sampler)


def build_forms_card(forms: Sequence[ContestantResult], trained: str, task: str, grader: str, is_guard: bool,
                     forms_of: str, metrics: Mapping[str, str] | None = None) -> ScoreCard:
    """Compare the forms of one model (merged, exported files) with the one named `trained`, on the same items; Holm
    over all of them. Nothing is left out: a model that was stopped early has forms like any other."""
    _require_same_items(forms)
    arms, still = _by_name(forms), SeedVariance(0.0, 0)
    rows = tuple(_row(group, still) for group in arms.values())
    pairs = [(name, trained) for name in arms if name != trained]
    comparisons = tuple(_compare_family("base", pairs, arms, trained, still))
    return ScoreCard(task, grader, trained, is_guard, len(forms[0].items), 1, rows, comparisons, _FORMS_SCOPE, forms_of,
                     _meanings(rows, metrics))


def build_files_card(files: Sequence[ContestantResult], source: str, task: str, grader: str, is_guard: bool,
                     forms_of: str, metrics: Mapping[str, str] | None = None) -> ScoreCard:
    """Compare exported files with the one named `source` that they were quantized from, as `build_forms_card` does."""
    made = build_forms_card(files, source, task, grader, is_guard, forms_of, metrics)
    return dataclasses.replace(made, scope=_FILES_SCOPE)


def build_beside_card(forms: Sequence[ContestantResult], base: ContestantResult, task: str, grader: str, is_guard: bool,
                      forms_of: str, metrics: Mapping[str, str] | None = None) -> ScoreCard:
    """Compare the forms of one model with the untrained `base`, on the same items; Holm over the forms. What a user
    gets is a form: this says whether it is still better than what the training began with."""
    made = build_forms_card([base, *forms], base.name, task, grader, is_guard, forms_of, metrics)
    return dataclasses.replace(made, scope=_BESIDE_SCOPE)


def _scope(seeds: int) -> str:
    if seeds >= SEEDS_FOR_FORMATS:
        return (f"{seeds} seeds per arm: the verdicts speak of the formats, with the variance of items and the "
                "variance between seeds (pooled over arms) both counted.")
    count = {0: "No trained model", 1: "One seed per arm"}.get(seeds, "Two seeds per arm")
    return (f"{count}: a verdict speaks of these trained models only, not of their formats; training again with "
            f"another seed may turn it. A verdict on formats needs {SEEDS_FOR_FORMATS} seeds.")


def _looked_at(comparisons: Sequence[Comparison], arms: Mapping[str, list[ContestantResult]], base: str,
               planned: int) -> list[Comparison]:
    """The same comparisons, with the verdicts of the looks. Pairs of arms are compared once, when the race is over."""
    asked = {one.first: _scores(arms[one.first]) for one in comparisons if one.family == "base"}
    found = look_at(asked, _scores(arms[base]), planned, ALPHA)
    is_over = max(map(len, asked.values()), default=0) == planned or all(look.sign for look in found.values())
    scale = ALPHA / look_levels(planned, ALPHA)[planned]
    said = []
    for one in comparisons:
        if one.family == "base":
            look = found[one.first]
            verdict: Verdict = "better" if look.sign > 0 else "worse" if look.sign < 0 else "cannot tell"
            said.append(dataclasses.replace(one, p_adjusted=look.p_adjusted, verdict=verdict))
        else:
            p = min(1.0, one.p_adjusted * scale) if is_over else 1.0
            said.append(dataclasses.replace(one, p_adjusted=p, verdict=one.verdict if p < ALPHA else "cannot tell"))
    return said


def _scope_of_looks(seeds: Sequence[int], planned: int) -> str:
    """What the verdicts of a race with looks speak of, and what the looks saved."""
    levels = look_levels(planned, ALPHA)
    newest = max(seeds, default=0)
    parts = ", ".join(f"{count} at {100 * level:.2g} %" for count, level in levels.items())
    begin = f"{newest} of {planned} seeds per arm. Looks after seeds {parts}, which add up to {100 * ALPHA:g} %: "
    if newest < min(SEEDS_FOR_FORMATS, planned):
        return begin + "no verdict yet."
    saved = sum(planned - count for count in seeds) if newest == planned else 0
    return begin + (
        "the verdicts speak of the formats, with the variance of items and the variance between seeds (pooled over "
        "arms) both counted; the interval is that of all seeds, alone." + (
            f" {saved} of {planned * len(seeds)} trainings were not needed." if saved else ""))


def _by_name(contestants: Sequence[ContestantResult]) -> dict[str, list[ContestantResult]]:
    arms: dict[str, list[ContestantResult]] = {}
    for member in contestants:
        arms.setdefault(member.name, []).append(member)
    return arms


def _require_same_items(contestants: Sequence[ContestantResult]) -> None:
    for member in contestants:
        if [item.prompt_id for item in member.items] != [item.prompt_id for item in contestants[0].items]:
            raise LocalDistillError(f"'{member.name}' and '{contestants[0].name}' did not answer the same items",
                                    "evaluate both with the same task and options")
    if contestants and not contestants[0].items:
        raise LocalDistillError("there are no items to score", "check the task's options")


def _mean(member: ContestantResult) -> float:
    return fmean(item.score for item in member.items)


def _scores(group: Sequence[ContestantResult]) -> list[list[float]]:
    return [[item.score for item in member.items] for member in group]


def _is_binary(group: Sequence[ContestantResult]) -> bool:
    return all(item.score in (0.0, 1.0) for member in group for item in member.items)


def _row(group: Sequence[ContestantResult], spread: SeedVariance, bins: Mapping[str, str] | None = None) -> ScoreRow:
    items = [item for member in group for item in member.items]
    replies = [reply for item in items for reply in item.replies]
    finished = [reply for reply in replies if reply.finished]
    score, count = fmean(item.score for item in items), len(group[0].items)
    if len(group) == 1 and _is_binary(group):
        interval = wilson_interval(score * count, count)
    else:
        interval = mean_interval_over_seeds(_scores(group), spread)
    errors = error_parts(group[0].items) if len(group) == 1 else None
    extracts = any(reply.extracted for reply in replies)
    return ScoreRow(
        name=group[0].name, format=group[0].format, thinks=group[0].thinks,
        seeds=tuple(member.seed for member in group), items=count, score=score,
        interval=(interval.low, interval.high), seed_scores=tuple(_mean(member) for member in group),
        finished_share=len(finished) / len(replies),
        limit_share=sum(reply.hit_limit for reply in replies) / len(replies),
        score_finished=fmean(reply.score for reply in finished) if finished else None,
        mean_answer_tokens=fmean(reply.answer_tokens for reply in replies),
        trained_tokens=round(fmean(member.trained_tokens for member in group)),
        stopped_early="; ".join(dict.fromkeys(m.stopped_early for m in group if m.stopped_early)),
        categories=_categories(items, len(group)),
        metrics=_metrics(items),
        undecided=sum(bool(item.undecided) for item in items),
        samples=len(replies) // len(items),
        error_items=errors[0] if errors else None, error_samples=errors[1] if errors else None,
        pass_at=passed_at(items), majority_at=majorities_at(items),
        difficulty=by_difficulty([member.items for member in group], bins or {}),
        loops=sum(is_looping(tokens_of(reply.output)) for reply in replies),
        unextracted=sum(not reply.extracted for reply in finished) if extracts else None,
        served=group[0].served,
        kept=tuple(member.kept for member in group if member.kept),
    )


def _metrics(replies: Sequence[ItemResult]) -> tuple[MetricMean, ...]:
    values: dict[str, list[float]] = {}
    for item in replies:
        for name, value in item.metrics.items():
            values.setdefault(name, []).append(value)
    return tuple(MetricMean(name, fmean(found), len(found)) for name, found in values.items())


def _meanings(rows: Sequence[ScoreRow], known: Mapping[str, str] | None) -> dict[str, str]:
    """Of the metrics that the rows have."""
    names = dict.fromkeys(found.name for row in rows for found in row.metrics)
    return {name: (known or {}).get(name, "") for name in names}


def _categories(replies: Sequence[ItemResult], seeds: int) -> tuple[CategoryScore, ...]:
    scores: dict[str, list[float]] = {}
    for item in replies:
        scores.setdefault(item.category, []).append(item.score)
    if set(scores) <= {""}:
        return ()
    names = sorted(scores, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return tuple(CategoryScore(name, len(scores[name]) // seeds, fmean(scores[name])) for name in names)


def _compare_family(family: FamilyName, pairs: Sequence[tuple[str, str]], arms: Mapping[str, list[ContestantResult]],
                    base: str, spread: SeedVariance) -> Iterator[Comparison]:
    raw = {pair: _compare(family, arms[pair[0]], arms[pair[1]], pair[1] == base, spread) for pair in pairs}
    adjusted = holm({pair: comparison.p_value for pair, comparison in raw.items()})
    for pair, comparison in raw.items():
        low, high = comparison.interval
        verdict: Verdict = "cannot tell"
        if adjusted[pair] < ALPHA and (low > 0 or high < 0):
            verdict = "better" if low > 0 else "worse"
        yield dataclasses.replace(comparison, p_adjusted=adjusted[pair], verdict=verdict)


def _compare(family: FamilyName, first: list[ContestantResult], second: list[ContestantResult], against_base: bool,
             spread: SeedVariance) -> Comparison:
    flips = list(_flips(first, second))
    won, lost = ([flip for side, flip in flips if side == wanted] for wanted in (1, -1))
    if len(first) == 1 and len(second) == 1:
        difference, interval, p_value, detectable, method = _one_seed(first, second, len(won), len(lost))
    else:
        found = compare_over_seeds(_scores(first), _scores(second), spread, second_is_trained=not against_base)
        difference, interval, p_value = found.difference, found.interval, found.p_value
        detectable, method = found.detectable, "t test over items and seeds"
    alone = len(first) == len(second) == 1
    return Comparison(
        family=family, first=first[0].name, second=second[0].name, difference=difference,
        interval=(interval.low, interval.high), p_value=p_value, p_adjusted=p_value, verdict="cannot tell",
        detectable=detectable, won=len(won), lost=len(lost), method=method, flips_won=tuple(won[:FLIPS_KEPT]),
        flips_lost=tuple(lost[:FLIPS_KEPT]), same_text=_same_text(first[0], second[0]) if alone else None)


def _one_seed(first: list[ContestantResult], second: list[ContestantResult], won: int,
              lost: int) -> tuple[float, Interval, float, float, str]:
    pairs = [(a.score, b.score) for a, b in zip(first[0].items, second[0].items, strict=True)]
    difference = fmean(a - b for a, b in pairs)
    share = round((won + lost) / len(pairs), 3)
    if _is_binary([*first, *second]):
        both = sum(a == b == 1.0 for a, b in pairs)
        interval = paired_difference_interval(both, won, lost, len(pairs) - both - won - lost)
        return (difference, interval, mcnemar_exact(won, lost), detectable_difference(len(pairs), share),
                "exact McNemar test, Newcombe interval")
    differences = [a - b for a, b in pairs]
    return (difference, mean_difference_interval(differences), sign_flip_p(differences),
            detectable_mean_difference(differences), "paired permutation test, t interval")


def _same_text(first: ContestantResult, second: ContestantResult) -> int:
    return sum(a.output.strip() == b.output.strip() for a, b in zip(first.items, second.items, strict=True))


def _flips(first: list[ContestantResult], second: list[ContestantResult]) -> Iterator[tuple[int, Flip]]:
    """Items that most seeds of one side get right and most of the other do not, with the outputs of the first seeds."""
    for place, (one, two) in enumerate(zip(first[0].items, second[0].items, strict=True)):
        left, right = (fmean(member.items[place].score for member in side) >= RIGHT for side in (first, second))
        if left != right:
            yield (1 if left else -1), Flip(one.prompt_id, one.output, two.output, one.extracted, two.extracted)
