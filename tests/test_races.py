"""Races: arms are trained seed by seed, all that is there is measured after each, and looks on the way keep the error
that is stated: who is decided is trained no further."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localdistill import (
    Cancel,
    RunFolder,
    UsageError,
    Workspace,
    cancel,
    clock_time,
    load_recipe,
    parse_recipe,
    plan_training,
    recipe_file,
    resume,
    start,
    wait,
)
from localdistill.api.runs.results import cards_of
from localdistill.core.events import ArtifactWritten, Event, Noted, StageFinished, Warned, silent
from localdistill.core.stages import Leg, is_race, legs
from localdistill.runs.race_time import FreshSeeds, in_time
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCard, build_score_card, is_settled
from localdistill.scorecard.looks import look_at, look_levels
from localdistill.stages import train
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import (
    ArmAdapter,
    ArmDataset,
    DatasetFacts,
    EvaluateOutput,
    FormatOutput,
    TrainOutput,
    read_output,
    write_output,
)
from localdistill.store import Store
from localdistill.trainers.report import TrainingResult

STAGES = ("format", "train", "evaluate", "export")
RECIPE = """name = "race"
[prompts]
files = ["q.jsonl"]
[teacher]
use = "replay"
path = "t.jsonl"
[arm.clear]
format = "answer_only"
[arm.open]
format = "full_trace"
[arm.after]
format = "full_trace"
start = "clear"
[student]
model = "shipped:none"
[train]
seeds = 5
looks = true
[[evaluate.task]]
use = "pantry"
"""


def model(name: str, right: int, seed: int = 0, of: int = 200) -> ContestantResult:
    """A model that gets the first so many items right."""
    items = tuple(ItemResult(f"p{n}", float(n < right), True, False, 10) for n in range(of))
    return ContestantResult(name, seed, "f", False, 100, "", items)


def card(rights: dict[str, list[int]], until: int, is_guard: bool = False, margin: float = 0.05) -> ScoreCard:
    models = [model(name, count, seed) for name, counts in rights.items() for seed, count in enumerate(counts)]
    return build_score_card(models, "base", "sums", "exact", is_guard, margin=margin, looks_until=until)


def verdicts(found: ScoreCard, family: str = "base") -> list[str]:
    return [one.verdict for one in found.comparisons if one.family == family]


def test_each_seed_is_measured_before_the_next_is_trained_and_other_runs_go_on_as_ever() -> None:
    raced = ["format 3", "train 1", "evaluate 1", "train 2", "evaluate 2", "train 3", "evaluate 3", "export 3"]
    assert [f"{leg.stage} {leg.seeds}" for leg in legs(STAGES, 3)] == raced
    assert [leg.stage for leg in legs(STAGES, 1)] == list(STAGES)
    assert [leg.stage for leg in legs(("format", "train"), 3)] == ["format", "train"]
    assert [leg.stage for leg in legs(("select", "evaluate"), 1)] == ["select", "evaluate"]


def test_looks_begin_after_three_seeds_and_spend_no_more_than_the_error() -> None:
    levels = look_levels(6, 0.05)
    assert list(levels) == [3, 4, 5, 6] and sum(levels.values()) == pytest.approx(0.05)
    assert sorted(levels.values()) == list(levels.values()), "little is spent early"
    assert look_levels(2, 0.05) == {2: pytest.approx(0.05)} and list(look_levels(3, 0.05)) == [3]


def test_what_a_look_decided_stays_and_needs_no_more_seeds() -> None:
    base = [[0.0] * 160 + [1.0] * 40]
    good, calm = [1.0] * 130 + [0.0] * 70, [0.0] * 158 + [1.0] * 42
    early = look_at({"good": [good] * 2, "calm": [calm] * 2}, base, 5, 0.05)
    assert {look.seeds for look in early.values()} == {0} and {look.sign for look in early.values()} == {0}
    third = look_at({"good": [good] * 3, "calm": [calm] * 3}, base, 5, 0.05)
    assert (third["good"].sign, third["good"].seeds, third["calm"].sign) == (1, 3, 0)
    later = look_at({"good": [good] * 3, "calm": [calm] * 5}, base, 5, 0.05)
    assert later["good"] == third["good"] and later["calm"].seeds == 5
    bad = look_at({"bad": [[0.0] * 200] * 3}, base, 5, 0.05)["bad"]
    assert bad.sign == -1 and bad.p_adjusted < 0.05


def test_equal_arms_are_rarely_told_apart_although_one_looks_four_times() -> None:
    draw, false = random.Random(4), 0
    for _ in range(120):
        rates = [draw.betavariate(2, 3) for _ in range(60)]

        def seed(moves: float, rates: list[float] = rates) -> list[float]:
            shift = draw.gauss(0, moves)
            return [float(draw.random() < min(1.0, max(0.0, rate + shift))) for rate in rates]

        found = look_at({arm: [seed(0.02) for _ in range(6)] for arm in "abcd"}, [seed(0.0)], 6, 0.05)
        false += any(look.sign for look in found.values())
    assert false <= 12, "of 120, at a stated error of 5 %"


def test_the_card_says_where_the_race_stands_and_what_the_looks_saved() -> None:
    begun = card({"base": [40], "clear": [130] * 2, "open": [42] * 2}, 5)
    assert verdicts(begun) == ["cannot tell"] * 2 and begun.scope.endswith("no verdict yet.")
    third = card({"base": [40], "clear": [130] * 3, "open": [42, 44, 40]}, 5)
    assert verdicts(third) == ["better", "cannot tell"] and third.scope.startswith("3 of 5 seeds per arm")
    assert verdicts(third, "arms") == ["cannot tell"], "pairs are compared when the race is over"
    over = card({"base": [40], "clear": [130] * 3, "open": [42, 44, 40, 41, 43]}, 5)
    assert verdicts(over) == ["better", "cannot tell"] and verdicts(over, "arms") == ["better"]
    assert "2 of 10 trainings were not needed" in over.scope and "speak of the formats" in over.scope
    for one in over.comparisons:
        assert (one.p_adjusted < 0.05) == (one.verdict != "cannot tell")


def test_pairs_are_compared_when_the_last_seed_is_there_though_an_arm_was_settled_elsewhere_before() -> None:
    rights = {"base": [40], "clear": [130] * 5, "harmful": [42] * 3}
    over = card(rights, 5)
    assert verdicts(over) == ["better", "cannot tell"] and verdicts(over, "arms") == ["better"]
    assert "2 of 10 trainings were not needed" in over.scope
    before = card({**rights, "clear": [130] * 4}, 5)
    assert verdicts(before, "arms") == ["cannot tell"]


def test_an_arm_is_settled_when_more_seeds_would_decide_nothing() -> None:
    rights = {"base": [100], "good": [180] * 3, "bad": [20] * 3, "open": [101] * 3}
    target = card(rights, 5)
    assert [is_settled([target], arm) for arm in ("good", "bad", "open")] == [True, True, False]
    harmed = card({"base": [180], "good": [20] * 3, "bad": [180] * 3, "open": [180] * 3}, 5, is_guard=True)
    wide = card({"base": [180], "good": [176, 164, 176], "bad": [180] * 3, "open": [180] * 3}, 5, is_guard=True)
    assert is_settled([target, harmed], "good"), "what it costs is known too"
    assert not is_settled([target, wide], "good") and is_settled([target, wide], "bad")


class Clock:
    """Every leg takes as long as it says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def race_until(end_in_s: float, already: int = 0) -> tuple[list[Leg], list[Event]]:
    """The legs that run of a race of five seeds, of which so many were there already; and what is said."""
    clock, told, fresh = Clock(), list[Event](), FreshSeeds()
    until, ran = clock() + end_in_s, list[Leg]()
    for leg in in_time(legs(STAGES, 5), until, told.append, "localdistill resume race-1", fresh.newest_is, clock):
        ran.append(leg)
        is_there = leg.seeds <= already
        if leg.stage == "train":
            for seed in range(leg.seeds):
                fresh.take(ArtifactWritten("adapter", "a", reused=is_there or seed < leg.seeds - 1, seed=seed))
        clock.now += 2.0 if is_there else {"train": 90.0, "evaluate": 10.0}.get(leg.stage, 1.0)
    return ran, told


def test_a_race_has_several_seeds_and_measures_them() -> None:
    assert is_race(STAGES, 2) and not is_race(STAGES, 1)
    assert not is_race(("format", "train"), 5) and not is_race(("select", "evaluate"), 5)


def test_of_a_race_that_is_resumed_only_what_is_trained_now_is_measured() -> None:
    ran, told = race_until(150.0, already=2)
    assert max(leg.seeds for leg in ran if leg.stage == "train") == 3, "nothing was known before the third"
    assert [event.text for event in told if isinstance(event, Warned)] == [
        f"3 seeds of every arm are trained: another one takes 1 min 40 s, as measured, and would not end by "
        f"{datetime.fromtimestamp(1_000_150).strftime('%H:%M')}"]
    assert [leg.stage for leg in ran][-1] == "export"


@pytest.mark.parametrize(("end_in_s", "trained"), [(1e6, 5), (10.0, 1), (350.0, 3), (0.0, 1)])
def test_a_race_that_is_to_end_trains_as_many_seeds_as_fit_and_exports(end_in_s: float, trained: int) -> None:
    ran, told = race_until(end_in_s)
    assert max(leg.seeds for leg in ran if leg.stage == "train") == trained == sum(leg.stage == "train" for leg in ran)
    assert [leg.stage for leg in ran].count("evaluate") == trained and ran[-1].stage == "export"
    warned = [event for event in told if isinstance(event, Warned)]
    assert len(warned) == (trained < 5)
    if warned:
        assert f"{trained} seeds of every arm" in warned[0].text and warned[0].hint == "localdistill resume race-1"
    if trained == 3:
        assert [event.text.partition(": ")[2][:10] for event in told if isinstance(event, Noted)] == [
            "2 more fit", "1 more fit"]


def test_a_time_of_day_is_the_next_one_and_another_form_is_refused() -> None:
    now = datetime(2026, 11, 30, 22, 0)
    assert clock_time("07:00", now) == datetime(2026, 12, 1, 7, 0).timestamp()
    assert clock_time("23:30", now) == datetime(2026, 11, 30, 23, 30).timestamp()
    assert clock_time("2026-12-02 07:00", now) == datetime(2026, 12, 2, 7, 0).timestamp()
    for wrong in ("7 pm", "25:00", "2026-13-01 07:00", ""):
        with pytest.raises(UsageError, match="is no time of day"):
            clock_time(wrong, now)
    with pytest.raises(UsageError, match="is past"):
        clock_time("2026-11-30 21:00", now)


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[tuple[str, int]]]:
    """The trainings of one leg of the recipe's race, by arm and seed."""
    workspace, recipe = Workspace(tmp_path), parse_recipe(RECIPE, "race.toml")
    run = RunFolder.create(workspace.runs, recipe, RECIPE, {"stages": list(STAGES), "base": str(tmp_path)})
    facts = DatasetFacts("a", "answer_only 1", False, 4, 10, 20, 5, 5, 1)
    write_output(run, FormatOutput({arm.name: ArmDataset("d", facts) for arm in recipe.arms}, 4, "s"))
    trained: list[tuple[str, int]] = []

    def once(context: StageContext, training: Any) -> ArmAdapter:
        trained.append((training.section.name, training.seed))
        assert training.start is None or training.start.seed == training.seed
        return ArmAdapter("a", training.seed, TrainingResult(1, 1.0, 1, 0.1, 1.0, 1))

    monkeypatch.setattr(train, "_train_arm", once)

    def leg(seeds: int) -> list[tuple[str, int]]:
        trained.clear()
        train.run(StageContext(workspace, run, recipe, Store(workspace.store_path), silent, Cancel(), seeds=seeds))
        return list(trained)

    leg.run = run  # type: ignore[attr-defined]
    return leg


def test_a_leg_trains_up_to_its_seed_and_leaves_out_who_is_settled(race: Any) -> None:
    assert race(1) == [("clear", 0), ("after", 0), ("open", 0)] or race(1) == [("clear", 0), ("open", 0), ("after", 0)]
    assert len(race(3)) == 9
    write_output(race.run, EvaluateOutput("c", "", (), {"open": 3}))
    assert sorted(race(4)) == sorted([(arm, seed) for arm in ("clear", "after") for seed in range(4)]
                                     + [("open", seed) for seed in range(3)])
    assert {arm: len(found) for arm, found in read_output(race.run, TrainOutput).adapters.items()} == {
        "clear": 4, "after": 4, "open": 3}
    assert sorted({arm for arm, _ in race(2)}) == ["after", "clear", "open"], "a run that is resumed begins anew"


def test_an_arm_from_which_an_open_one_starts_is_trained_on_with_it(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.stages import evaluate

    def settled(*names: str, seeds: int = 3) -> dict[str, int]:
        monkeypatch.setattr(evaluate, "is_settled", lambda cards, arm: arm in names)
        context = SimpleNamespace(recipe=parse_recipe(RECIPE, "race.toml"), run=race.run, seeds=seeds,
                                  note=lambda text: None)
        return evaluate._settled(context, [])  # type: ignore[arg-type]

    assert settled("clear", "open") == {"open": 3}
    assert settled("clear", "after") == {"clear": 3, "after": 3}
    write_output(race.run, EvaluateOutput("c", "", (), {"open": 3}))
    assert settled("clear", "after", seeds=4) == {"clear": 4, "after": 4, "open": 3}, "what was settled stays so"


def test_looks_need_seeds_to_look_at_and_the_plan_says_what_they_may_save(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks come after 3 seeds"):
        parse_recipe(RECIPE.replace("seeds = 5", "seeds = 3"), "race.toml")
    recipe = load_recipe(recipe_file("pantry"), ['prompts.files=["gone.jsonl"]', "train.seeds=5", "train.looks=true"])
    training = next(line.text for line in plan_training(recipe, tmp_path).lines if line.label == "training")
    assert "4 arms x 5 seeds = 20 trainings" in training and "at best 12 trainings" in training


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_race_that_is_stopped_and_resumed_ends_with_the_card_of_one_that_was_not(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    source = recipe_file("pantry")
    recipe = load_recipe(source, [
        "prompts.limit=48", "train.epochs=0.5", "train.seeds=4", "train.looks=true", "evaluate.task.pantry.limit=20",
        "evaluate.task.pantry_guard.limit=10"])
    seen: list[Event] = []
    place = Workspace(tmp_path)
    run = start(place, recipe, source.read_text(), source.parent, "evaluate")

    def watched(event: Event) -> None:
        seen.append(event)
        if isinstance(event, StageFinished) and event.stage == "evaluate" and not cancelled:
            cancelled.append(run.id)
            cancel(place, run.id)

    cancelled: list[str] = []
    assert wait(run, [watched]).state == "cancelled"
    early = read_output(run, EvaluateOutput)
    assert {one.seed for one in early.answers if one.contestant != "base"} == {recipe.seed}, "early answers come early"
    again: list[Event] = []
    assert wait(resume(place, run.id), [again.append]).state == "finished", run.log.read_text()[-3000:]
    found = read_output(run, EvaluateOutput)
    seeds = {arm.name: sorted(one.seed for one in found.answers if one.contestant == arm.name and one.task == "pantry")
             for arm in recipe.arms}
    for name, there in seeds.items():
        assert there == list(range(recipe.seed, recipe.seed + found.settled.get(name, 4))), name
    assert set(early.answers) <= set(found.answers), "what was answered is not answered again"
    target = next(one for one in cards_of(place, run) if one.task == "pantry")
    assert "of 4 seeds per arm. Looks after seeds 3 at" in target.scope
