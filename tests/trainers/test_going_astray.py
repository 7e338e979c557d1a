"""A training that goes astray: what is called so, that it goes back to what was good and on with a lower rate, once,
and that one which is resumed knows of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, LocalDistillError
from localdistill.core.events import Cancel, Event, Measured, Warned
from localdistill.trainers._options import LoopOptions
from localdistill.trainers._watchdog import LEAST_RISE, LossWatchdog
from localdistill.trainers.backend import StepNumbers, StepWork
from localdistill.trainers.loop import run_training
from localdistill.trainers.report import TrainingResult
from tests.trainers.rows import job, random_rows
from tests.widening.bag_of_tokens import MatrixBackend

pytest.importorskip("transformers")
FINE, TOO_FAST = 5.0, 50_000.0


def train(student: Path, folder: Path, backend: MatrixBackend | None = None, events: list[Event] | None = None,
          cancel: Cancel | None = None, **options: Any) -> TrainingResult:
    """Twenty steps of the toy, with a checkpoint after every third."""
    told = LoopOptions.model_validate({"learning_rate": FINE, "batch_rows": 4, "checkpoint_every_s": 0, "epochs": 5,
                                       "schedule": "constant", "checkpoint_every_steps": 3, **options})
    return run_training("toy", told, job(student, folder, random_rows(16)), backend or MatrixBackend(),
                        (events if events is not None else []).append, cancel or Cancel())


def tried(student: Path, folder: Path, backend: MatrixBackend | None = None, **more: Any,
          ) -> tuple[TrainingResult, list[float], list[Event]]:
    """Twenty steps of a training that is only tried; its rates, and what it said."""
    events: list[Event] = []
    told = LoopOptions.model_validate({"learning_rate": FINE, "batch_rows": 4, "epochs": 5, "schedule": "constant"})
    result = run_training("toy", told, job(student, folder, random_rows(16), goes_back=False, **more),
                          backend or MatrixBackend(), events.append, Cancel())
    return result, [event.value for event in events if isinstance(event, Measured)
                    and event.name == "learning_rate"], events


def test_a_range_test_raises_the_rate_in_equal_ratios_whatever_the_options_say(student: Path, tmp_path: Path) -> None:
    result, rates, _ = tried(student, tmp_path, rates=(1e-3, 1.0))
    assert result.steps == 20 and rates == pytest.approx([1e-3 * 1000 ** (step / 19) for step in range(20)])


def test_what_is_only_tried_ends_where_it_goes_astray(student: Path, tmp_path: Path) -> None:
    for number, (backend, rates) in enumerate([(None, (1.0, 1e8)), (Fragile(7, 0.0), None)]):
        result, _, events = tried(student, tmp_path / str(number), backend, rates=rates)
        assert ("the loss exploded", "the loss was not finite at step 8")[number] in result.stopped_early
        assert result.recovery is None and result.steps < 20
        assert [event for event in events if isinstance(event, Warned)] == []


def test_a_rate_that_is_to_be_found_trains_nothing(student: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalDistillError, match='learning_rate = "tuned" is no rate yet'):
        train(student, tmp_path, learning_rate="tuned")


def weights(folder: Path) -> bytes:
    return np.load(folder / "adapter" / "matrix.npy").tobytes()


class Fragile(MatrixBackend):
    """Has no finite loss from the so-manieth step on, as long as a step was taken with more than `rate`."""

    def __init__(self, at: int, rate: float) -> None:
        super().__init__()
        self.at, self.rate, self.fastest = at, rate, 0.0

    def accumulate(self, work: StepWork) -> StepNumbers:
        numbers = super().accumulate(work)
        broken = self.applied >= self.at and self.fastest > self.rate
        return StepNumbers(float("nan") if broken else numbers.loss, numbers.tokens, numbers.trained_tokens)

    def apply(self, rate: float, max_norm: float) -> float:
        self.fastest = rate
        return super().apply(rate, max_norm)


def watched(losses: list[float]) -> tuple[int, str]:
    """The 1-based step at which something is wrong with these losses, and what; 0 where nothing is."""
    watchdog = LossWatchdog()
    return next(((step, wrong) for step, loss in enumerate(losses, 1)
                 if (wrong := watchdog.what_is_wrong(loss, step))), (0, ""))


def test_five_steps_far_above_the_level_are_an_explosion_and_the_last_good_weights_are_known() -> None:
    falling = [2.4 - 0.02 * step for step in range(40)]
    step, wrong = watched([*falling, *[7.2] * 20])
    assert step == 45 and "the loss exploded: at 5 steps up to step 45 it lay far above its level of 2.33" in wrong
    watchdog = LossWatchdog()
    for number, loss in enumerate([*falling, 7.2, 7.2], 1):
        assert not watchdog.what_is_wrong(loss, number)
    assert watchdog.good_step == 39 and not watchdog.is_calm
    assert not watchdog.what_is_wrong(2.0, 43) and watchdog.good_step == 42 and watchdog.is_calm
    assert watched([0.9, 0.8, 0.9, 6.8, 7.0, 7.1, 7.1, 7.2])[0] == 8, "a warm-up that ends too fast"


@pytest.mark.parametrize("losses", [
    [2.0, 2.1, 1.9, 2.2] * 5 + [9.0, 2.0] * 10,  # odd batches
    [2.0] * 10 + [0.001] * 50 + [0.3, 0.5, 0.4, 0.6] * 10,  # rows that were known by heart, and some that were not
    [0.7, 0.2, 1.6, 0.1, 1.5, 0.6, 1.4, 0.1] * 10,  # batches of one row
    [-0.5, -0.7, -0.6, 0.2, -0.3] * 10,  # objectives that go below nothing
    [6.0 + 0.1 * step for step in range(50)],  # slowly worse: that is for development items to see
])
def test_what_is_noise_is_no_explosion(losses: list[float]) -> None:
    assert watched(losses) == (0, "")
    assert LEAST_RISE < 2, "twice nothing is nothing"


def test_a_rate_that_is_too_high_goes_back_and_on_with_a_tenth(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = train(student, tmp_path, events=events, learning_rate=TOO_FAST)
    assert result.recovery is not None and result.recovery.why.startswith("the loss exploded"), result
    assert result.steps == 20 or "exploded" in result.stopped_early
    told = [event.text for event in events if isinstance(event, Warned)]
    assert any("it went back to step" in text and "on with 0.1 of the learning rate" in text for text in told)
    assert "it went back to step" in result.came_out


@pytest.mark.parametrize(("at", "back_to"), [(2, 0), (8, 6), (9, 6), (10, 9)])
def test_after_a_number_that_is_not_finite_it_goes_on_from_the_newest_good_checkpoint(
    at: int, back_to: int, student: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    result = train(student, tmp_path, Fragile(at, FINE / 2), events)
    assert result.steps == 20 and not result.stopped_early and result.recovery is not None
    assert (result.recovery.at_step, result.recovery.back_to, result.recovery.rate_factor) == (at + 1, back_to, 0.1)
    assert f"the loss was not finite at step {at + 1}; it went back to step {back_to}" in result.came_out
    rates = {event.step: event.value for event in events if isinstance(event, Measured)
             and event.name == "learning_rate"}
    assert rates[back_to + 1] == pytest.approx(FINE / 10) and len(rates) == 20
    assert (rates.get(back_to, FINE)) == pytest.approx(FINE)


def test_the_second_time_it_stops_with_weights_that_are_finite(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = train(student, tmp_path, Fragile(7, 0.0), events)
    assert result.steps == 7 and result.stopped_early == "the loss was not finite at step 8"
    assert result.recovery is not None and np.isfinite(np.load(tmp_path / "adapter" / "matrix.npy")).all()
    assert any("stopped" in event.text and "weights of step 7 are kept" in event.text for event in events
               if isinstance(event, Warned))
    with pytest.raises(LocalDistillError, match="the loss was not finite at step 1, and nothing was learned"):
        train(student, tmp_path / "b", Fragile(0, -1.0))


class High(MatrixBackend):
    """Has losses far above all others from a step on."""

    def accumulate(self, work: StepWork) -> StepNumbers:
        numbers = super().accumulate(work)
        return StepNumbers(numbers.loss * (1 if self.applied < 7 else 5), numbers.tokens, numbers.trained_tokens)


def test_an_explosion_that_comes_again_ends_with_the_weights_from_before(student: Path, tmp_path: Path) -> None:
    result = train(student, tmp_path, High())
    assert result.steps == 6 and "the loss exploded: at 5 steps up to step 12" in result.stopped_early
    assert result.recovery is not None and (result.recovery.at_step, result.recovery.back_to) == (12, 6)
    with pytest.raises(LocalDistillError, match="nothing was learned before that"):
        train(student, tmp_path / "b", High(), checkpoint_every_steps=0)


class Breaking(Fragile):
    """Asks to cancel before the so-manieth step that is taken."""

    def __init__(self, after: int) -> None:
        super().__init__(8, FINE / 2)
        self.left, self.cancel = after, Cancel(lambda: self.left <= 0)

    def apply(self, rate: float, max_norm: float) -> float:
        self.left -= 1
        return super().apply(rate, max_norm)

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "fastest").write_text(str(self.fastest))

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self.fastest = float((folder / "fastest").read_text())


def test_a_training_that_is_resumed_knows_that_it_went_back(student: Path, tmp_path: Path) -> None:
    straight = train(student, tmp_path / "straight", Breaking(10**6))
    assert straight.recovery is not None and straight.steps == 20
    for after in (1, 5, 8, 9, 12, 20):
        folder, breaking = tmp_path / str(after), Breaking(after)
        with contextlib.suppress(Cancelled):
            train(student, folder, breaking, cancel=breaking.cancel)
        assert not (folder / "adapter").exists()
        again = train(student, folder, Breaking(10**6))
        assert (again.steps, again.final_loss, again.trained_tokens, again.token_accuracy) == (
            straight.steps, straight.final_loss, straight.trained_tokens, straight.token_accuracy)
        assert weights(folder) == weights(tmp_path / "straight"), f"broken off after {after}"
        assert again.recovery is not None and again.recovery.why == straight.recovery.why


def test_the_share_of_tokens_that_are_ranked_first_is_told_by_epoch(student: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = train(student, tmp_path, events=events, epochs=40, learning_rate=60.0)
    steps = [event.value for event in events if isinstance(event, Measured) and event.name == "token_accuracy"]
    assert len(steps) == 160 and len(result.token_accuracy) == 40
    assert result.token_accuracy[0] < 0.1 and result.token_accuracy[-1] > result.token_accuracy[0]
    assert min(steps[-4:]) < result.token_accuracy[-1] < max(steps[-4:]), "all tokens of the epoch, whatever the batch"
    last = 100 * result.token_accuracy[-1]
    assert result.learned.startswith(f"{last:.1f} % of the trained tokens ranked first in the last epoch (")
    known = TrainingResult(1, 1.0, 1, 0.0, 0.0, 0, token_accuracy=(0.6, 0.995))
    assert known.learned.endswith("(60.0 % in the first), saturated: more epochs of these rows bring little")
    assert TrainingResult(1, 1.0, 1, 0.0, 0.0, 0).learned == ""
