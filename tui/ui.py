"""What screens, flows, jobs and widgets may ask of the app that shows them. They are typed on this contract and never
on the app itself, which imports them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

from textual import events
from textual.message_pump import MessagePump
from textual.notifications import SeverityLevel
from textual.screen import Screen

from localdistill import LocalDistillError, RunFolder, RunStatus, Workspace
from tui.commands import Command
from tui.state import AppState, RunView

T = TypeVar("T")


class Wanted(TypedDict, total=False):
    """What a screen can be asked to show when one goes there."""

    file: Path
    """Chat: the model file to talk to. Recipe: the file to open."""
    selection: str
    """Traces: the saved selection whose traces to list."""
    where: str
    """Traces: the condition on those to list."""


class Work(Protocol):
    """Work that takes longer than a key press."""

    def do(self, work: Callable[[], T], done: Callable[[T], None] | None = None, *, group: str = "",
           failed: Callable[[LocalDistillError], None] | None = None) -> None:
        """Run `work` in a thread, then `done(result)` in the event loop. In a `group` the newest work counts."""

    def watch_run(self, folder: RunFolder) -> None:
        """Follow one run from its first fact on."""

    def asked_to_stop(self) -> bool:
        """Asked inside `work` that takes long: True once nobody waits for its result."""

    def say(self, show: Callable[[T], None], what: T) -> None:
        """Called inside `work` that takes long: `show(what)` in the event loop, unless nobody waits any more."""


@runtime_checkable
class Ui(Protocol):
    """The app."""

    @property
    def workspace(self) -> Workspace:
        """What all of it is about."""

    @property
    def state(self) -> AppState:
        """What is known now."""

    @property
    def jobs(self) -> Work:
        """Where work goes that takes longer than a key press."""

    @property
    def used_at(self) -> float:
        """When a key or the mouse was used last, on the monotonic clock."""

    @property
    def on_battery(self) -> Literal["go", "pause"] | None:
        """What runs that are started or resumed here do on battery."""

    @property
    def notice(self) -> str:
        """What is run when a run that is started or resumed here ends."""

    def end_of_races(self) -> float | None:
        """When races that are started or resumed here are to end, in seconds since the epoch; None: when all their
        seeds are trained. UsageError when that time is past."""

    # ---- what is seen

    def go(self, name: str, **what: Unpack[Wanted]) -> None:
        """Bring a screen to the front and let it show `what`."""

    def push_screen(self, screen: Screen[T]) -> object:
        """Open a window in front of the screen."""

    def notify(self, message: str, *, title: str = "", severity: SeverityLevel = "information",
               markup: bool = True) -> None:
        """Say something in passing."""

    def say_aloud(self, text: str) -> None:
        """Say something that somebody who looks elsewhere must not miss."""

    def show_error(self, error: LocalDistillError) -> None:
        """What happened, what was kept, what to do."""

    def guarded(self, work: Callable[[], None]) -> None:
        """Do something short that may be refused."""

    def call_later(self, callback: Callable[[Screen[T]], object], screen: Screen[T]) -> bool:
        """Call back when what is under way now is done."""

    def goes_on_after(self, key: events.Key) -> bool:
        """More came behind `key`, too fast for a hand."""

    # ---- what can be done

    def commands_now(self) -> list[Command]:
        """What can be done here and now."""

    async def perform(self, command: Command) -> None:
        """Do it."""

    def start_recipe(self, name: str, settings: Sequence[str] = (), until: str = "", accepted: Sequence[str] = (),
                     then: str = "runs", queued: bool = False) -> None:
        """Start a run of a recipe (a file, or the name of a shipped one), follow it, and go to the screen `then`.
        queued: it begins once its device is free."""

    def cancel_run(self, run_id: str) -> None:
        """Ask a run to stop; asked again, it stops at once."""

    def resume_run(self, run_id: str, max_usd: float | None = None, spent_usd: float | None = None,
                   arm: str = "") -> None:
        """Continue a run and follow it; `arm` is what it exports from now on."""

    def attach(self, run_id: str) -> None:
        """Follow this run, also when another one begins."""

    def follow_run(self, folder: RunFolder) -> None:
        """Follow a run that has just begun, and whatever lives after it."""

    def follow_step(self, command: str) -> None:
        """Do what a next step of Home says: a command of the command line."""

    def look_at(self, trace_id: str) -> None:
        """This trace is looked at now, by all screens that show one."""

    # ---- what is told

    def runs_seen(self, runs: Sequence[RunStatus]) -> None:
        """The list of runs changed."""

    def run_seen(self, view: RunView) -> None:
        """The followed run changed."""


def ui_of(node: MessagePump) -> Ui:
    """The app that shows `node`."""
    app = node.app
    assert isinstance(app, Ui)
    return app
