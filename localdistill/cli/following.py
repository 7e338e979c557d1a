"""Watching a run from the command line: facts as lines, progress as one line that is rewritten on a terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from localdistill import (
    ArtifactWritten,
    Counted,
    Event,
    Failed,
    Noted,
    Progressed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Warned,
    duration_text,
    estimate_text,
)
from localdistill.cli import output

QUIET_EVERY_S = 5.0
LEAST_SEEN_S = 10.0
"""So long work is watched before anything is said of its end."""


def sentence(event: Event) -> str | None:
    """One event as lines for people, or None when it is not worth one."""
    match event:
        case RunStarted():
            return f"run {event.run_id}: {' > '.join(event.stages)}"
        case StageStarted():
            return event.stage
        case StageFinished():
            return f"  {event.stage} took {duration_text(event.elapsed_s)}" + (
                " (everything was done before)" if event.reused else ""
            )
        case ArtifactWritten():
            return f"  {event.artifact_kind} {event.digest[3:11]} {event.label}" + (
                " (done before)" if event.reused else ""
            )
        case Counted():
            of = "".join(f"{name}: " for name in (event.arm, event.trace_set) if name and name != event.what)
            return f"  {of}{event.what}: {output.counts(event.counts)}"
        case Noted():
            return "\n".join(f"  {line}" for line in event.text.splitlines())
        case Warned():
            return f"  warning: {event.text}" + (f"\n    try: {event.hint}" if event.hint else "")
        case Failed():
            return f"error: {event.text}" + (f"\n  try: {event.hint}" if event.hint else "")
        case RunFinished():
            return f"run {event.state} after {duration_text(event.elapsed_s)}"
    return None


def progress(data: dict[str, Any], left_s: float | None = None) -> str:
    """The status of a run as one line. left_s: how long the work under way may still take."""
    total, done = data.get("total") or 0, data.get("done") or 0
    text = "  " + ": ".join(filter(None, (str(data.get("stage") or ""), str(data.get("label") or ""))))
    if total:
        text += f"  {done:,.0f}/{total:,.0f} {data.get('unit', '')} ({100 * done / total:.0f} %)"
    extra = {
        k: round(v, 4) if isinstance(v, float) and not float(v).is_integer() else int(v)
        for k, v in (data.get("counters") or {}).items()
        if v
    }
    text += f"  {output.counts(extra)}" if extra else ""
    return text + (f"  about {estimate_text(left_s)} left" if left_s is not None else "")


class TimeLeft:
    """How long the work under way may still take, by how far it came since it was first seen."""

    def __init__(self) -> None:
        self._label = ""
        self._first = self._began = 0.0

    def after(self, label: str, done: float, total: float, now_s: float) -> float | None:
        """In seconds; None where that cannot be told yet. now_s: on any clock."""
        if label != self._label or done < self._first:
            self._label, self._first, self._began = label, done, now_s
        came, took = done - self._first, now_s - self._began
        if not total or came <= 0 or took < LEAST_SEEN_S:
            return None
        return max(0.0, total - done) * took / came


class Watcher:
    """Prints what `follow` yields."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.live = output.is_live() and not as_json
        self._passing = output.Passing()
        self._line = ""
        self._said_at = time.monotonic()
        self._time_left = TimeLeft()

    def fact(self, event: Event, is_past: bool = False) -> None:
        """Print one fact. is_past: it was written before anybody watched."""
        if self.as_json:
            output.data_json_line({**event.to_json(), **({"past": True} if is_past else {})})
            return
        text = sentence(event)
        if text is not None:
            self.clear()
            is_heading = isinstance(event, RunStarted | StageStarted)
            output.talk("" if is_heading else text, heading=text if is_heading else "")
            self._said_at = time.monotonic()

    def event(self, event: Event) -> None:
        """Print what work in this process says."""
        if isinstance(event, Progressed):
            self.status({"label": event.label, "done": event.done, "total": event.total, "unit": event.unit})
        elif not self.as_json:
            self.fact(event)

    def status(self, data: dict[str, Any]) -> None:
        """Rewrite the progress line; where there is no terminal, print it every few seconds."""
        if self.as_json or not data.get("label"):
            return
        left_s = self._time_left.after(str(data["label"]), data.get("done") or 0, data.get("total") or 0,
                                       time.monotonic())
        line = progress(data, left_s)
        if self.live:
            self._passing.show(line)
        elif time.monotonic() - self._said_at > QUIET_EVERY_S and line != self._line:
            self._line = line
            self._said_at = time.monotonic()
            output.talk(line)

    def clear(self) -> None:
        """Remove the progress line."""
        self._passing.clear()


def watch(run: Any, as_json: bool, on_interrupt: Callable[[], bool], is_attached: bool = False) -> int:
    """Follow a run to its end and return its exit code. On Ctrl-C `on_interrupt` decides: True keeps watching.
    is_attached: what the run said before is marked as past."""
    from localdistill import RunStatus, follow

    watcher, status, left = Watcher(as_json), run.status(), False

    def interrupted(*_: object) -> None:
        nonlocal left
        watcher.clear()
        left = not on_interrupt()

    before, is_past = signal.signal(signal.SIGINT, interrupted), is_attached
    if is_attached and not as_json:
        output.talk(f"(what {run.id} said before)")
    try:
        for item in follow(run, stop=lambda: left):
            if isinstance(item, RunStatus):
                if is_past and item.alive and not as_json:
                    output.talk(f"(so far; from here on it is what {run.id} says now)")
                is_past, status = False, item
                watcher.status(dict(item.data))
            else:
                watcher.fact(item, is_past)
    finally:
        signal.signal(signal.SIGINT, before)
        watcher.clear()
    return 0 if left else _exit_code(status)


def _exit_code(status: Any) -> int:
    codes = {"finished": 0, "cancelled": 130, "interrupted": 1}
    return codes.get(status.state, int(status.data.get("exit_code", 1)))
