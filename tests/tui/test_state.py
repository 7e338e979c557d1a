"""The reducer: what a run's facts and statuses add up to, in any order, seen twice, damaged, and at full rate."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill import (
    ArtifactWritten,
    Counted,
    Event,
    Failed,
    Measured,
    Noted,
    RunFinished,
    RunStarted,
    RunStatus,
    StageFinished,
    StageStarted,
    Warned,
    event_from_json,
)
from localdistill.core.events import EVENTS
from tui.state import MOST_LINES, MOST_POINTS, Curve, RunView, reduce, thinned


def status(state: str = "running", at: float = 1.0, alive: bool = True, **data: Any) -> RunStatus:
    return RunStatus("r-1", "r", state, str(data.get("stage", "collect")), alive, 0.0, at, data)


def after(*items: Event | RunStatus, view: RunView | None = None) -> RunView:
    view = view or RunView("r-1")
    for item in items:
        view = reduce(view, item)
    return view


A_RUN: tuple[Event, ...] = (
    RunStarted("r-1", "r", ("collect", "train")),
    StageStarted("collect"),
    Counted("replies", {"complete": 3, "error": 1}, stage="collect"),
    Measured("spent_usd", 0.5, stage="collect"),
    Warned("1 replies failed: no", "look", stage="collect"),
    StageFinished("collect", 2.0),
    StageStarted("train"),
    Counted("dataset", {"rows": 3}, stage="train", arm="a", seed=0),
    *(Measured("loss", 3.0 / step, step, stage="train", arm="a", seed=0) for step in range(1, 6)),
    ArtifactWritten("adapter", "b2:1", "the first one", stage="train", arm="a", seed=0),
    *(Measured("loss", 2.0 / step, step, stage="train", arm="a", seed=1) for step in range(1, 4)),
    Noted("a note", stage="train"),
    StageFinished("train", 3.0, True),
    RunFinished("finished", 6.0),
)


def test_a_run_from_its_first_fact_to_its_last() -> None:
    view = after(*A_RUN)
    assert [(s.name, s.state, s.elapsed_s) for s in view.stages] == [("collect", "done", 2.0), ("train", "reused", 3.0)]
    assert (view.state, view.elapsed_s, view.is_alive, view.failure) == ("finished", 6.0, False, None)
    table = view.table("replies")
    assert table is not None and table.counts == {"complete": 3, "error": 1}
    assert view.latest("spent_usd") == 0.5 and view.latest("loss", "train") == pytest.approx(2 / 3)
    assert [said.text for said in view.said_in("collect")] == ["collect", "replies: complete 3, error 1",
                                                               "1 replies failed: no"]


def loss(arm: str = "", seed: int | None = None) -> Curve:
    return Curve("train", arm, seed, "", "loss")


def test_the_next_seed_of_an_arm_begins_a_curve_of_its_own() -> None:
    series = after(*A_RUN).series
    assert [len(series[loss("a", seed)]) for seed in (0, 1)] == [5, 3]


OLD = tuple({"stage": "train", "arm": "a", "kind": "measured", "name": "loss", "value": value / step, "step": step}
            for value in (3.0, 2.0) for step in range(1, 4))
"""Two trainings of one arm as older versions wrote them: no measurement says its seed."""


def old_adapter(seed: int, reused: bool = False) -> dict[str, Any]:
    return {"kind": "artifact_written", "artifact_kind": "adapter", "digest": f"b2:{seed}", "label": f"a, seed {seed}",
            "reused": reused}


def read(*rows: dict[str, Any]) -> list[Event]:
    """The events of a file with these lines."""
    found = [event_from_json(json.loads(json.dumps(row))) for row in rows]
    return [event for event in found if event is not None]


def test_what_older_versions_wrote_keeps_every_training_apart() -> None:
    facts = read(*OLD[:3], old_adapter(0), *OLD[3:], old_adapter(1))
    assert len(facts) == 8
    series = after(*facts).series
    assert {curve: points[0][1] for curve, points in series.items()} == {loss("a, seed 0"): 3.0, loss("a, seed 1"): 2.0}
    assert after(*facts, *facts).series == series
    assert after(*facts, *read(old_adapter(0, True), old_adapter(1, True))).series == series


def test_a_run_of_an_older_version_that_goes_on_has_one_curve_per_training() -> None:
    begun = read(*OLD[:3], old_adapter(0), *OLD[3:5])
    here: dict[str, Any] = {"stage": "train", "arm": "a"}
    view = after(*begun, ArtifactWritten("adapter", "b2:0", "a, seed 0", True, seed=0, **here),
                 Measured("loss", 0.5, 3, seed=1, **here))
    assert {curve: [step for step, _ in points] for curve, points in view.series.items()} == {
        loss("a", 0): [1, 2, 3], loss("a", 1): [1, 2, 3]}
    assert [(made.arm, made.seed) for made in view.artifacts] == [("a", 0)]


def test_a_resumed_training_replaces_the_steps_it_repeats() -> None:
    first = [Measured("loss", float(step), step, stage="train", arm="a", seed=0) for step in range(1, 11)]
    again = [Measured("loss", -float(step), step, stage="train", arm="a", seed=0) for step in range(7, 13)]
    points = after(*first, *again).series[loss("a", 0)]
    assert [step for step, _ in points] == list(range(1, 13))
    assert [value for _, value in points[5:8]] == [6.0, -7.0, -8.0]


def test_replaying_everything_changes_no_count() -> None:
    once, twice = after(*A_RUN), after(*A_RUN, *A_RUN)
    assert (twice.counts, twice.artifacts, twice.stages, twice.state) == (once.counts, once.artifacts, once.stages,
                                                                          once.state)
    assert twice.series[loss("a", 0)] == once.series[loss("a", 0)]


def test_the_live_status_gives_pace_and_what_is_left() -> None:
    view = after(*(status(at=100.0 + t, label="asking", done=10.0 * t, total=100.0, counters={"tokens": 50.0 * t})
                   for t in range(6)))
    assert (view.rate, view.tokens_per_s, view.remaining_s) == (10.0, 50.0, 5.0)
    other = after(status(at=106.0, label="grading", done=0.0, total=7.0), view=view)
    assert (other.rate, other.remaining_s) == (0.0, None), "another kind of work has a pace of its own"
    seeds = [after(status(at=100.0 + t, label="a", arm="a", seed=seed, done=10.0 * t, total=100.0),
                   view=after(status(at=99.0, label="a", arm="a", seed=0, done=0.0, total=100.0)))
             for t, seed in ((1, 0), (1, 1))]
    assert [view.rate for view in seeds] == [5.0, 0.0], "and so has another seed of an arm"


def test_thinking_answer_and_tables_are_kept_apart() -> None:
    view = after(status(tail="because", tail_answer="so", tail_of="big", tables={"replies": {"complete": 2}}))
    assert (view.tail, view.tail_answer, view.tail_of) == ("because", "so", "big")
    assert view.tables == {"replies": {"complete": 2}}
    assert after(StageStarted("grade"), view=view).tables == {}


def test_a_run_that_died_leaves_its_stage_stopped_and_resuming_starts_it_again() -> None:
    died = after(RunStarted("r-1", "r", ("collect",)), StageStarted("collect"), status("interrupted", alive=False))
    assert (died.stages[0].state, died.is_alive) == ("stopped", False)
    assert after(StageStarted("collect"), view=died).stages[0].state == "running"
    failed = after(StageStarted("collect"), Failed("collect", "no disk", "free some"))
    assert failed.failure is not None and failed.stages[0].state == "failed"
    assert after(RunStarted("r-1", "r", ("collect",)), view=failed).failure is None


WORDS = st.sampled_from(["collect", "train", "a", "b", "loss", ""])
JUNK = st.one_of(st.none(), st.integers(-3, 9), st.floats(), WORDS, st.lists(st.integers(), max_size=2),
                 st.dictionaries(WORDS, st.one_of(st.integers(0, 9), WORDS, st.none()), max_size=3))
KINDS = ["run_started", "run_finished", "stage_started", "stage_finished", "artifact_written", "measured", "counted",
         "noted", "warned", "failed"]


@st.composite
def damaged_facts(draw: st.DrawFn) -> Event:
    """A fact whose fields hold anything at all, as a damaged file may."""
    cls = EVENTS[draw(st.sampled_from(KINDS))]
    return cls(**{field: draw(JUNK) for field in [f.name for f in dataclasses.fields(cls)]})


@st.composite
def damaged_statuses(draw: st.DrawFn) -> RunStatus:
    names = ["label", "done", "total", "unit", "counters", "tables", "tail", "tail_answer", "tail_of"]
    return status(draw(st.sampled_from(["running", "failed", "odd"])), draw(st.floats(0, 1e6)), draw(st.booleans()),
                  **{name: draw(JUNK) for name in names})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(damaged_facts(), damaged_statuses(), st.sampled_from(A_RUN)), max_size=25))
def test_nothing_that_a_file_can_hold_raises(items: list[Event | RunStatus]) -> None:
    view = after(*items)
    assert all(isinstance(value, float) for points in view.series.values() for _, value in points)
    assert all(isinstance(said.text, str) for said in view.said)
    for points in view.series.values():
        assert [step for step, _ in points] == sorted({step for step, _ in points})


@settings(max_examples=60, deadline=None)
@given(st.permutations(A_RUN), st.integers(0, len(A_RUN)))
def test_order_and_repetition_never_raise_and_never_count_twice(facts: list[Event], begin: int) -> None:
    view = after(*facts, *facts[begin:])
    assert view.damaged == 0
    assert sum(table.what == "replies" for table in view.counts) == 1
    assert len(view.artifacts) == 1


def test_a_damaged_fact_is_counted() -> None:
    view = after(Counted("w", 5), Measured("n", "much"), status(counters=[1]))  # type: ignore[arg-type]
    assert view.damaged == 3 and view.series == {} and view.counts == ()


def test_a_value_that_is_no_number_stays_visible() -> None:
    text = '{"kind": "measured", "stage": "train", "name": "loss", "value": NaN, "step": 3}'
    fact = event_from_json(json.loads(text))
    assert fact is not None
    assert math.isnan(after(fact).series[loss()][0][1])


def test_ten_thousand_facts_become_one_line_per_arm_and_name() -> None:
    facts = [Measured(name, 1.0 / step, step, stage="train", arm=arm) for step in range(1, 1251) for arm in "abcd"
             for name in ("loss", "learning_rate")]
    assert len(facts) == 10_000
    view = after(*facts)
    assert len(view.series) == 8


def test_curves_and_logs_stay_bounded() -> None:
    view = after(*(Measured("loss", 1.0, step, stage="train") for step in range(MOST_POINTS + 500)),
                 *(Noted(str(n), stage="train") for n in range(MOST_LINES + 10)))
    points = view.series[loss()]
    assert len(points) <= MOST_POINTS and points[0][0] == 0 and points[-1][0] == MOST_POINTS + 499
    assert len(view.said) == MOST_LINES
    assert len(thinned(tuple((n, 0.0) for n in range(MOST_POINTS + 1)))) <= MOST_POINTS
