"""What long work says while it runs. Events are the only way the core reports: the CLI prints them, the TUI
reduces them to state, tests collect them. Facts are past tense and end up in `events.jsonl`; `Progressed` and
`Streamed` are passing states that only `status.json` holds. Whoever does the work says what happened; where it happened
(stage, arm, seed, contestant, set) is stamped on by the stage, so that members of families know none of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from localdistill.core.errors import Cancelled


@dataclass(frozen=True)
class Event:
    """Base of all events; `kind` is the tag in JSON."""

    kind: ClassVar[str] = "event"
    is_fact: ClassVar[bool] = True

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict with `kind` first."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A supervisor began (or resumed) a run."""

    kind = "run_started"
    run_id: str
    recipe: str
    stages: tuple[str, ...]


@dataclass(frozen=True)
class RunFinished(Event):
    """A run ended; `state` is finished, failed, cancelled, partial or paused (its cap is reached)."""

    kind = "run_finished"
    state: str
    elapsed_s: float
    exit_code: int = 0


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage began."""

    kind = "stage_started"
    stage: str


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage ended well; `reused` is true when everything it makes existed before."""

    kind = "stage_finished"
    stage: str
    elapsed_s: float
    reused: bool = False


@dataclass(frozen=True)
class WorkEvent(Event):
    """Base of what is said by work inside a stage. Its fields say where the work stands and are never part of a label;
    see `stamped`."""

    stage: str = field(default="", kw_only=True)
    arm: str = field(default="", kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    """Seed of the training that this is of; None where no single one is meant."""
    contestant: str = field(default="", kw_only=True)
    """Name of the model under test; its arm and seed stand beside it where it was trained."""
    trace_set: str = field(default="", kw_only=True)
    """Name of the set of traces."""


@dataclass(frozen=True)
class ArtifactWritten(WorkEvent):
    """An artifact is complete (or was found complete, `reused`)."""

    kind = "artifact_written"
    artifact_kind: str
    digest: str
    label: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Measured(WorkEvent):
    """One number at one step, for example the loss of an arm."""

    kind = "measured"
    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Counted(WorkEvent):
    """A table of counts worth keeping: rows removed per reason, replies per status."""

    kind = "counted"
    what: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Noted(WorkEvent):
    """A sentence for the user that is neither a warning nor a number."""

    kind = "noted"
    text: str


@dataclass(frozen=True)
class Warned(WorkEvent):
    """Something the user should know; the work goes on."""

    kind = "warned"
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Failed(Event):
    """A stage stopped with an error."""

    kind = "failed"
    stage: str
    text: str
    hint: str = ""
    exit_code: int = 1


@dataclass(frozen=True)
class Progressed(WorkEvent):
    """How far the current work is; `total` 0 means unknown."""

    kind = "progressed"
    is_fact = False
    label: str
    done: float
    total: float
    unit: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Counts by kind so far, for screens with room for them: table -> kind -> count."""


@dataclass(frozen=True)
class Streamed(WorkEvent):
    """The tail of the text that a model is writing now; its thinking, where `answer` holds the rest apart."""

    kind = "streamed"
    is_fact = False
    text: str
    answer: str = ""
    who: str = ""
    """Who writes it, where several do."""


EVENTS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted, RunFinished, StageStarted, StageFinished, ArtifactWritten, Measured, Counted, Noted, Warned,
        Failed, Progressed, Streamed,
    )
}


def event_from_json(data: Mapping[str, Any]) -> Event | None:
    """The event that `data` says, or None when the kind or a field is unknown (a newer version wrote it)."""
    cls = EVENTS.get(str(data.get("kind")))
    if cls is None:
        return None
    try:
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key not in ("kind", "at")}
        return cls(**values)
    except TypeError:
        return None


Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An `emit` for callers that do not listen."""


def stamped(emit: Emit, stage: str = "", arm: str = "", seed: int | None = None, contestant: str = "",
            trace_set: str = "") -> Emit:
    """`emit` for work of this stage, arm, seed, contestant or set: what an event leaves unsaid is filled in."""

    def emit_stamped(event: Event) -> None:
        if isinstance(event, WorkEvent):
            event = dataclasses.replace(
                event, stage=event.stage or stage, arm=event.arm or arm,
                seed=seed if event.seed is None else event.seed, contestant=event.contestant or contestant,
                trace_set=event.trace_set or trace_set)
        emit(event)

    return emit_stamped


class Cancel:
    """A question that long work asks inside its loops: was it told to stop?"""

    def __init__(self, asked: Callable[[], bool] = lambda: False) -> None:
        self._asked = asked

    def is_set(self) -> bool:
        """True once somebody asked to stop."""
        return self._asked()

    def check(self) -> None:
        """Raise `Cancelled` when asked to stop."""
        if self._asked():
            raise Cancelled("cancelled", "localdistill resume continues from here")
