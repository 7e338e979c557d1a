"""tune: what a recipe may say of it, that its tries are kept and its choice is what arms are trained with, and that a
tuning which was killed repeats no try."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from localdistill.core.errors import Cancelled, RecipeError, UsageError
from localdistill.core.events import Cancel, Emit, Event, Measured, Noted, Progressed, Warned
from localdistill.recipe import parse_recipe
from localdistill.recipe.advice import advice_on
from localdistill.stages import train, tune
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import TrainOutput, TuneOutput, read_output
from localdistill.stages.tuning import Setting
from localdistill.trainers import TRAINERS
from localdistill.trainers.job import TrainingJob
from localdistill.trainers.report import DevOutcome, TrainingResult
from tests.stages.test_development import write_items
from tests.stages.test_training_arms import RECIPE, arm, context_of
from tests.toys import listed
from tests.trainers.rows import random_rows
from tests.widening.bag_of_tokens import BagOfTokensTrainer

DEV = '[train.dev]\nevery_steps = 2\nmax_tokens = 4\n[train.dev.task]\nuse = "jsonl"\npath = "dev.jsonl"\n'
TUNE = "[train.tune]\nrange_steps = 20\nrates = 3\n"
TUNED = RECIPE.replace("learning_rate = 1e-2", 'learning_rate = "tuned"')
FAKE = TUNED.replace("[train]", '[train]\nuse = "knowing"').replace('dtype = "float32"\ndevice = "cpu"\n', "")
BEST = 4.5e-3


class KnowingTrainer(BagOfTokensTrainer):
    """Knows the best rate, and how long a step takes. Says what it was asked to train, and dies where it is told to."""

    class Options(BagOfTokensTrainer.Options):
        """One more axis."""

        rank: int = Field(16, ge=1)
        """Of nothing."""

    asked: list[tuple[str, float, int, int]]
    dies_at = math.inf

    def train(self, job: TrainingJob, emit: Emit, cancel: Cancel) -> TrainingResult:
        """Counts."""
        options = self.options
        assert isinstance(options, self.Options)
        if len(self.asked) >= self.dies_at:
            raise Cancelled("here")
        rate = job.rates[1] if job.rates else options.peak_rate
        steps = min(options.max_steps or 10**6, round(options.epochs * 60))
        self.asked.append((job.arm, rate, options.rank, steps))
        for step in range(1, steps + 1):
            low, high = job.rates or (rate, rate)
            now = low * (high / low) ** (step / steps)
            loss = 3 - 0.02 * step if now < BEST else 3 - 0.02 * steps / 2 + 5 * math.log10(now / BEST)
            emit(Progressed(job.arm, step, steps, "steps", {"loss": loss, "learning_rate": now}))
        score = 0.8 - abs(math.log10(rate / BEST)) / 2 - abs(options.rank - 8) / 100
        assert job.dev_items is not None
        if job.goes_back:  # an arm
            return TrainingResult(steps, steps / 60, 9, 0.5, 2.0, 10)
        assert (job.dev_items.patience, job.dev_items.keeps_best) == (0, False), "one measurement, at the end"
        dev = DevOutcome(2, ((steps, score),), steps, steps, 0, "last", False, 1.0)
        return TrainingResult(steps, steps / 60, 9, 0.5, 2.0 + steps / 10, 10, dev=dev)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, float, int, int]]]:
    found: list[tuple[str, float, int, int]] = []
    monkeypatch.setattr(KnowingTrainer, "asked", found, raising=False)
    listed(monkeypatch, TRAINERS, "knowing", KnowingTrainer)
    yield found


def prepared(folder: Path, text: str, recipe: str = FAKE, arms: tuple[str, ...] = ("a",)) -> StageContext:
    folder.mkdir(exist_ok=True)
    write_items(folder / "dev.jsonl", "Double 3", "Double 11")
    return context_of(folder, "".join(map(arm, arms)) + text, {name: random_rows(60) for name in arms}, recipe)


def notes(context: StageContext, kind: type[Noted | Warned] = Noted) -> list[str]:
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    return [event.text for event in heard if isinstance(event, kind)]


@pytest.mark.parametrize(("head", "text", "said"), [
    (TUNED, DEV, 'train.learning_rate: is to be found, and nothing looks for it: add [train.tune]'),
    (TUNED, TUNE, "train.tune: compares by development items: add [train.dev]"),
    (TUNED, DEV + TUNE + 'arm = "b"', "train.tune.arm: there is no arm named 'b'"),
    (TUNED, DEV + TUNE + 'arm = "later"', "train.tune.arm: 'later' starts from 'a'"),
    (TUNED.replace("rank = 4", 'adapter = "orthogonal"\nrank = 4'), DEV + TUNE + "ranks = [4, 7]",
     "train.tune.ranks: 7: an orthogonal adapter has an even rank"),
    (TUNED, DEV + TUNE + "ranks = [4, 4]", "train.tune.ranks: names a value twice"),
    (TUNED, DEV + TUNE + "minute = 3", "train.tune.minute: unknown key; did you mean 'minutes'?"),
    (TUNED.replace('"tuned"', '"tunned"'), DEV + TUNE, 'train.learning_rate: is a number above 0, or "tuned"'),
    (TUNED.replace('"tuned"', "-1"), DEV + TUNE, 'train.learning_rate: is a number above 0, or "tuned"'),
])
def test_what_cannot_be_tuned_is_said_at_the_check(head: str, text: str, said: str) -> None:
    with pytest.raises(RecipeError) as told:
        parse_recipe(head + arm("a") + arm("later", 'start = "a"') + text)
    assert said in str(told.value) and str(told.value).count("learning_rate") <= 1


def test_a_recipe_without_the_section_has_no_such_stage_and_one_that_does_not_use_it_is_told() -> None:
    plain = parse_recipe(RECIPE + arm("a") + DEV)
    assert "tune" not in plain.stages() and plain.train is not None and not plain.train.is_tuned
    unused = parse_recipe(RECIPE + arm("a") + DEV + TUNE)
    assert unused.stages()[-2:] == ("tune", "train")
    assert advice_on(unused) == [("train.tune", 'what it finds is told and not used: train.learning_rate = "tuned" '
                                                "trains with it")]
    used = parse_recipe(TUNED + arm("a") + DEV + TUNE + "ranks = [4, 64]\nepochs = [1, 5]")
    assert advice_on(used) == [] and used.train is not None
    heaviest = used.train.heaviest_options()
    assert (heaviest["rank"], heaviest["epochs"]) == (64, 5.0), "plans and checks take the heaviest"


def test_what_is_chosen_is_what_every_arm_trains_with(tmp_path: Path, asked: list[Any]) -> None:
    context = prepared(tmp_path, DEV + TUNE + "ranks = [4, 8, 16]\nminutes = 30\n", arms=("a", "b"))
    with pytest.raises(UsageError, match="no result of the stage 'tune'"):
        train.run(context)
    tune.run(context)
    left = read_output(context.run, TuneOutput)
    result = left.result
    assert result.chosen == Setting(min((one.setting.learning_rate for one in result.tries),
                                        key=lambda rate: abs(math.log10(rate / BEST))), 8, 2.0)
    assert result.options() == {"learning_rate": result.chosen.learning_rate, "rank": 8} and result.arm == "a"
    assert [sum(one.rung == rung for one in result.tries) for rung in (1, 2)] == [9, 3]
    assert [steps for name, _, _, steps in asked] == [20, *[40] * 9, *[120] * 3]
    assert f"learning rate {result.chosen.learning_rate:.1e}, rank 8 by tuning on a: 12 tries" in notes(context)[-1]
    manifest = context.artifact("tuning", left.tuning).manifest
    assert manifest["inputs"] == ["b2:a"] and manifest["options"]["learning_rate"] == "tuned"
    assert [file.name for file in context.artifact("tuning", left.tuning).path.iterdir()
            if file.suffix == ".json" and "manifest" not in file.name] == ["tuning.json"]

    later = again(context)
    train.run(later)
    assert asked[13:] == [(name, result.chosen.learning_rate, 8, 120) for name in "ab"]
    for name, (one,) in read_output(later.run, TrainOutput).adapters.items():
        options = later.artifact("adapter", one.adapter).manifest["options"]
        assert (options["learning_rate"], options["rank"]) == (result.chosen.learning_rate, 8), name
        assert options["epochs"] == 2, "nothing was listed, and what [train] says counts"


def again(context: StageContext) -> StageContext:
    """The next process of the run."""
    later = StageContext(context.workspace, context.run, context.recipe, context.store, context.emit, Cancel())
    later.heard = context.heard  # type: ignore[attr-defined]
    return later


def test_the_same_again_costs_nothing_and_another_budget_is_another_tuning(tmp_path: Path, asked: list[Any]) -> None:
    first = prepared(tmp_path, DEV + TUNE)
    tune.run(first)
    count = len(asked)
    same = prepared(tmp_path, DEV.replace("every_steps = 2", "every_steps = 3\npatience = 4") + TUNE)
    tune.run(same)
    assert len(asked) == count == 1 + 3 + 0 and same.reused_all and not first.reused_all, "a rung of three leaves one"
    assert read_output(same.run, TuneOutput) == read_output(first.run, TuneOutput)
    other = prepared(tmp_path, DEV + TUNE + "minutes = 5\n")
    tune.run(other)
    assert len(asked) == 2 * count and read_output(other.run, TuneOutput).tuning != read_output(
        first.run, TuneOutput).tuning


def test_a_tuning_that_was_killed_repeats_no_try_and_chooses_the_same(
        tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = DEV + TUNE + "ranks = [4, 8, 16]\n"
    straight = prepared(tmp_path / "straight", text)
    tune.run(straight)
    whole = list(asked)
    for at in (1, 4, 11):
        asked.clear()
        context = prepared(tmp_path / str(at), text)
        monkeypatch.setattr(KnowingTrainer, "dies_at", at)
        with pytest.raises(Cancelled):
            tune.run(context)
        monkeypatch.setattr(KnowingTrainer, "dies_at", math.inf)
        tune.run(again(context))
        assert asked == whole, f"broken off before training {at}"
        one, other = (read_output(done.run, TuneOutput).result for done in (straight, context))
        assert replace(one, seconds=0, tries=()) == replace(other, seconds=0, tries=())
        assert [(row.setting, row.kept) for row in one.tries] == [(row.setting, row.kept) for row in other.tries]


def test_what_does_not_fit_into_the_minutes_is_warned_of(tmp_path: Path, asked: list[Any]) -> None:
    context = prepared(tmp_path, DEV + TUNE + "ranks = [4, 8, 16]\nminutes = 0.7\n")
    tune.run(context)
    result = read_output(context.run, TuneOutput).result
    assert len(asked) < 13 and any("did not fit into the time" in text for text in notes(context, Warned))
    assert result.seconds <= 42 and any("did not fit into the time" in text for text in result.told)


@pytest.mark.slow
def test_a_real_student_is_tuned_and_trained_with_what_was_found(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    context = prepared(tmp_path, DEV + TUNE + "minutes = 30\n", TUNED)
    tune.run(context)
    result = read_output(context.run, TuneOutput).result
    assert {one.setting.rank for one in result.tries} == {4} and len(result.tries) == 3
    assert all(one.score is not None and one.loss is not None for one in result.tries if not one.astray)
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    curve = [event.value for event in heard if isinstance(event, Measured)
             and (event.name, event.arm) == ("learning_rate", "range test")]
    assert len(curve) <= 20 and curve == sorted(curve) and curve[0] == pytest.approx(result.rule / 10 ** 1.5)
    later = again(context)
    train.run(later)
    [one] = read_output(later.run, TrainOutput).adapters["a"]
    options = later.artifact("adapter", one.adapter).manifest["options"]
    assert options["learning_rate"] == result.chosen.learning_rate
