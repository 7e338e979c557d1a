"""What the screens show, as values, and the one function that derives it from what runs report. Pure: knows no widget,
no clock, no file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, NamedTuple

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
)

StageState = Literal["waiting", "running", "done", "reused", "failed", "stopped"]
MOST_POINTS = 4000
"""Points kept per curve; beyond that every second one of the older half is dropped."""
MOST_LINES = 500
RATE_WINDOW_S = 60.0


@dataclass(frozen=True)
class StageView:
    """One stage of a run."""

    name: str
    state: StageState = "waiting"
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Said:
    """One line of a run's log for people."""

    kind: Literal["note", "warning", "error", "counts", "artifact", "stage"]
    text: str
    hint: str = ""
    stage: str = ""


@dataclass(frozen=True)
class CountTable:
    """Counts as a stage reported them, newest per name."""

    stage: str
    what: str
    counts: Mapping[str, int]
    arm: str = ""
    trace_set: str = ""


class Curve(NamedTuple):
    """What one curve shows, and of whom. `seed` is None and `contestant` empty where no single one is meant."""

    stage: str
    arm: str
    seed: int | None
    contestant: str
    name: str


@dataclass(frozen=True)
class Made:
    """One artifact, as it was said."""

    kind: str
    digest: str
    label: str
    """For people; nothing is read out of it."""
    arm: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class RunView:
    """One run as it is known now."""

    run_id: str
    recipe: str = ""
    state: str = "starting"
    stages: tuple[StageView, ...] = ()
    stage: str = ""
    label: str = ""
    whose: tuple[str, int | None, str] = ("", None, "")
    """Arm, seed and contestant of the present work."""
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)
    tail: str = ""
    """End of the text that a model writes now; its thinking where `tail_answer` says the answer apart."""
    tail_answer: str = ""
    tail_of: str = ""
    """Who writes it."""
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Passing counts by kind, for example replies by status, errors by text, answers by teacher."""
    series: Mapping[Curve, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """(step, value), in order."""
    unnamed: tuple[str, str] = ("", "")
    """Stage and arm that was measured last without a seed: older versions did not say it."""
    counts: tuple[CountTable, ...] = ()
    said: tuple[Said, ...] = ()
    artifacts: tuple[Made, ...] = ()
    failure: Said | None = None
    elapsed_s: float = 0.0
    exit_code: int = 0
    pace: tuple[tuple[float, float], ...] = ()
    """(time, done) of the last minute of the present work."""
    token_pace: tuple[tuple[float, float], ...] = ()
    """(time, tokens so far) of the same minute."""
    damaged: int = 0
    """Facts that could not be understood; they were passed over."""

    @property
    def is_alive(self) -> bool:
        """It is being worked on."""
        return self.state in ("starting", "running")

    @property
    def rate(self) -> float:
        """Units per second over the last minute; 0 when unknown."""
        return _slope(self.pace)

    @property
    def tokens_per_s(self) -> float:
        """New tokens per second over the last minute, all teachers together; 0 when unknown."""
        return _slope(self.token_pace)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the present work is done; None when unknown."""
        return (self.total - self.done) / self.rate if self.rate and self.total else None

    def said_in(self, stage: str) -> tuple[Said, ...]:
        """What was said while `stage` ran, by whomever."""
        found, now = [], ""
        for said in self.said:
            now = said.stage if said.kind == "stage" else now
            if now == stage:
                found.append(said)
        return tuple(found)

    def latest(self, name: str, stage: str = "", arm: str = "") -> float | None:
        """The newest value of a measured name; empty stage or arm match any."""
        for curve, points in reversed(list(self.series.items())):
            if curve.name == name and stage in ("", curve.stage) and arm in ("", curve.arm) and points:
                return points[-1][1]
        return None

    def table(self, what: str, arm: str = "") -> CountTable | None:
        """The counts called `what`."""
        return next((t for t in reversed(self.counts) if t.what == what and arm in ("", t.arm)), None)


def reduce(view: RunView, item: Event | RunStatus) -> RunView:
    """`view` after one more fact or status. Facts that are seen again after a resume replace themselves; one that makes
    no sense (a damaged file) is counted and passed over."""
    try:
        return _reduced(view, item)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return replace(view, damaged=view.damaged + 1)


def _reduced(view: RunView, item: Event | RunStatus) -> RunView:
    match item:
        case RunStatus():
            return _with_status(view, item)
        case RunStarted():
            known = {stage.name: stage for stage in view.stages}
            stages = tuple(known.get(name, StageView(name)) for name in map(str, item.stages))
            return replace(view, recipe=str(item.recipe), stages=stages, state="running", failure=None)
        case StageStarted():
            stage = str(item.stage)
            fresh = replace(view, stage=stage, **_NO_WORK)
            return _say(_stage(fresh, stage, "running"), Said("stage", stage, stage=stage))
        case StageFinished():
            return _stage(view, str(item.stage), "reused" if item.reused else "done", float(item.elapsed_s))
        case Failed():
            said = Said("error", str(item.text), str(item.hint), str(item.stage))
            return replace(_say(_stage(view, said.stage, "failed"), said), failure=said)
        case RunFinished():
            return replace(view, state=str(item.state), elapsed_s=float(item.elapsed_s), exit_code=int(item.exit_code),
                           stages=_halted(view.stages))
        case Measured():
            return _measured(view, item)
        case Counted():
            counts = {str(name): int(count) for name, count in item.counts.items()}
            table = CountTable(str(item.stage), str(item.what), counts, str(item.arm), str(item.trace_set))
            others = tuple(t for t in view.counts if replace(t, counts=counts) != table)
            text = f"{table.what}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
            return _say(replace(view, counts=(*others, table)), Said("counts", text, stage=table.stage))
        case ArtifactWritten():
            return _made(view, item)
        case Warned():
            return _say(view, Said("warning", str(item.text), str(item.hint), str(item.stage)))
        case Noted():
            return _say(view, Said("note", str(item.text), stage=str(item.stage)))
    return view


_NO_WORK: Any = {"label": "", "done": 0.0, "total": 0.0, "pace": (), "token_pace": (), "counters": {}, "tables": {},
                 "tail": "", "tail_answer": "", "tail_of": ""}


def _measured(view: RunView, item: Measured) -> RunView:
    """One more point. A step that was measured before (the work was resumed from an earlier one) replaces what
    followed it."""
    key = Curve(str(item.stage), str(item.arm), _seed(item.seed), str(item.contestant), str(item.name))
    step, value = int(item.step), float(item.value)
    if key.seed is not None and view.unnamed == (key.stage, key.arm):
        view = _renamed(view, view.unnamed, key.arm, key.seed)
    points = view.series.get(key, ())
    if points and points[-1][0] >= step:
        points = points[:bisect_left(points, step, key=lambda point: point[0])]
    unnamed = (key.stage, key.arm) if key.arm and key.seed is None else view.unnamed
    return replace(view, series={**view.series, key: thinned((*points, (step, value)))}, unnamed=unnamed)


def _made(view: RunView, item: ArtifactWritten) -> RunView:
    """One more artifact; one that is said again replaces itself."""
    made = Made(str(item.artifact_kind), str(item.digest), str(item.label), str(item.arm), _seed(item.seed))
    before = next((one for one in view.artifacts if (one.kind, one.digest) == (made.kind, made.digest)), None)
    if made.kind == "adapter":
        made, view = _trained(view, made, before, bool(item.reused))
    kept = tuple(one for one in view.artifacts if (one.kind, one.digest) != (made.kind, made.digest))
    text = f"{made.kind} {made.label}" + (" (done before)" if item.reused else "")
    return _say(replace(view, artifacts=(*kept, made)), Said("artifact", text, stage=str(item.stage)))


def _trained(view: RunView, made: Made, before: Made | None, reused: bool) -> tuple[Made, RunView]:
    """An adapter, and the curves of its training under its name. What older versions wrote says neither arm nor seed:
    there an adapter ends the training that was measured last, and its label is all that it can be called by. Once a
    newer version said whose it is, its curves follow."""
    if made.arm:
        renames = before is not None and before.seed is None and made.seed is not None
        return made, _renamed(view, ("", before.arm), made.arm, made.seed) if before and renames else view
    made = replace(made, arm=made.label)
    if reused or not view.unnamed[1]:
        return made, view
    return made, _renamed(view, view.unnamed, made.arm, made.seed)


def _renamed(view: RunView, source: tuple[str, str], arm: str, seed: int | None) -> RunView:
    """The curves of `source` (a stage, empty for all, and an arm) without a seed become those of `arm` and `seed`."""
    stage, before = source
    series = {curve._replace(arm=arm, seed=seed)
              if curve.arm == before and curve.seed is None and stage in ("", curve.stage) else curve: points
              for curve, points in view.series.items()}
    return replace(view, series=series, unnamed=("", "") if source == view.unnamed else view.unnamed)


def _seed(value: object) -> int | None:
    return None if value is None else int(str(value))


def _say(view: RunView, said: Said) -> RunView:
    return replace(view, said=(*view.said, said)[-MOST_LINES:])


def _stage(view: RunView, name: str, state: StageState, elapsed_s: float = 0.0) -> RunView:
    if name not in {stage.name for stage in view.stages}:
        view = replace(view, stages=(*view.stages, StageView(name)))
    stages = tuple(StageView(name, state, elapsed_s) if s.name == name else s for s in view.stages)
    return replace(view, stages=stages)


def _halted(stages: tuple[StageView, ...]) -> tuple[StageView, ...]:
    """The stages of a run that nobody works on: what ran was stopped."""
    return tuple(replace(stage, state="stopped") if stage.state == "running" else stage for stage in stages)


def _with_status(view: RunView, status: RunStatus) -> RunView:
    data = status.data
    done, total = _finite(data.get("done")), _finite(data.get("total"))
    counters = {str(name): float(value) for name, value in dict(data.get("counters") or {}).items()}
    tables = {str(name): {str(kind): int(count) for kind, count in table.items()}
              for name, table in dict(data.get("tables") or {}).items()}
    whose = (str(data.get("arm") or ""), _seed(data.get("seed")), str(data.get("contestant") or ""))
    goes_on = (data.get("label"), whose) == (view.label, view.whose) and done >= view.done
    at = status.updated_at
    stages = view.stages if status.alive or status.state in ("running", "starting") else _halted(view.stages)
    return replace(
        view, stages=stages, recipe=status.recipe, state=status.state, stage=status.stage or view.stage,
        label=str(data.get("label") or ""), whose=whose, done=done, total=total, unit=str(data.get("unit") or ""),
        counters=counters, tables=tables, tail=str(data.get("tail") or ""),
        tail_answer=str(data.get("tail_answer") or ""), tail_of=str(data.get("tail_of") or ""),
        pace=_paced(view.pace if goes_on else (), at, done),
        token_pace=_paced(view.token_pace if goes_on else (), at, counters.get("tokens", 0.0)),
    )


def _finite(value: object) -> float:
    """`value` as a number that one can reckon with; 0 for what is none."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if isfinite(number) else 0.0


def _paced(pace: tuple[tuple[float, float], ...], at: float, value: float) -> tuple[tuple[float, float], ...]:
    """The last minute with one more reading; a reading of the same moment is none."""
    if pace and at <= pace[-1][0]:
        return pace
    return (*(p for p in pace if p[0] >= at - RATE_WINDOW_S), (at, value))[-600:]


def _slope(pace: tuple[tuple[float, float], ...]) -> float:
    if len(pace) < 2:
        return 0.0
    (begin, before), (end, after) = pace[0], pace[-1]
    return max(0.0, (after - before) / (end - begin)) if end > begin else 0.0


def thinned(points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """At most `MOST_POINTS` points: the older half keeps every second one."""
    if len(points) <= MOST_POINTS:
        return points
    half = len(points) // 2
    return points[:half:2] + points[half:]


@dataclass(frozen=True)
class AppState:
    """All that every screen may look at."""

    runs: tuple[RunStatus, ...] = ()
    """Runs of the workspace, oldest first."""
    watched: RunView | None = None
    """The run that is followed."""
    chosen: str = ""
    """The run that somebody asked to follow; empty when the newest living one is followed."""
    trace: str = ""
    """The trace that was looked at last."""
