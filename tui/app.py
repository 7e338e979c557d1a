"""The app: one workspace, its screens, what is known now, and the few actions that work everywhere. Runs live outside;
closing this changes nothing about them. What the first picture does not need is imported where it is used."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Unpack

from rich.console import RenderableType
from rich.text import Text
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from localdistill import (
    TRACEBACK_VARIABLE,
    LocalDistillError,
    RunFolder,
    RunStatus,
    UsageError,
    Workspace,
    explain,
)
from tui.commands import Command
from tui.jobs import Jobs
from tui.menu import MENU
from tui.palette import Palette
from tui.pasting import fitting
from tui.screens import load
from tui.screens.base import Page
from tui.state import AppState, RunView
from tui.text import line, safe
from tui.typeahead import Passed, TypeAhead
from tui.ui import Wanted
from tui.widgets.dialogs import ConfirmDialog, ErrorDialog, HelpDialog
from tui.widgets.fields import takes_text

TERMINAL_THEMES = {"terminal": "ansi-dark", "terminal-light": "ansi-light"}


def _everywhere() -> tuple[Command, ...]:
    """What can be done on every screen."""
    return (
        *(Command(f"go.{e.name}", f"open: {e.title}", e.twin, f"app.go('{e.name}')", e.key, in_footer=False)
          for e in MENU),
        Command("help.show", "explain: this screen", "", "app.explain", "f1", "What this is and which keys it has."),
        Command("theme.change", "change: theme", "", "app.change_theme"),
        Command("runs.on_battery", "battery: pause on it, or go on", "run", "app.toggle_battery", "",
                "Whether runs that are started or resumed here wait for mains power while the machine has none."),
        Command("runs.end_by", "end races by: a time of day", "run", "app.ask_end_by", "",
                "By when a race of several seeds that is started or resumed here ends, with as many as fit."),
        Command("app.quit", "quit: localdistill", "", "app.quit", "ctrl+q", "Runs go on without it."),
    )


class LocalDistillApp(App[None]):
    """localdistill in a terminal."""

    TITLE = "localdistill"
    CSS_PATH = "app.tcss"
    COMMANDS = {Palette}
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(c.key, c.action.removeprefix("app."), c.label, show=c.in_footer, id=c.id)
          for c in _everywhere() if c.key),
        Binding("ctrl+p,colon", "command_palette", "commands", id="palette.open"),
    ]

    def __init__(self, workspace: Path | None = None, start: str = "home", **what: Unpack[Wanted]) -> None:
        """start: the first screen, which shows `what`."""
        super().__init__()
        self.workspace = Workspace.find(workspace)
        self.jobs = Jobs(self, self)
        self.state = AppState()
        self._start, self._what = start, what
        self.tidies = False
        """This process has no other use than this app: see `Jobs.tidy_when_quiet`."""
        self.used_at = 0.0
        """When a key or the mouse was used last, on the monotonic clock."""
        self.on_battery: Literal["go", "pause"] | None = None
        self.end_by = ""
        """What runs that are started or resumed here do on battery; None: they go on, as they were told before."""
        self.notice = ""
        """What is run when a run that is started or resumed here ends; see `Settings.notify`."""
        self.rings = True
        """The terminal rings when a run ends."""
        self._starts = False
        """A run is being started: keys pressed meanwhile start no second one."""
        self._pages: dict[str, Page] = {}
        self.typed = TypeAhead(self, self._route, self._typed_too_early)
        """What was typed and is not handled yet."""

    # ---- life

    def on_mount(self) -> None:
        """First paint comes before anything is read."""
        self.screen_change_signal.subscribe(self, self.typed.front_changed, immediate=True)
        self.go(self._start, **self._what)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        from tui.settings import read_settings

        try:
            settings = read_settings(self.workspace.root)
        except UsageError as error:
            self.show_error(error)
        else:
            theme = TERMINAL_THEMES.get(settings.theme, settings.theme)
            if theme in self.available_themes:
                self.theme = theme
            elif theme:
                self.show_error(UsageError(f"there is no theme '{theme}'", "known: terminal, terminal-light, "
                                           + ", ".join(self.available_themes)))
            self.on_battery = settings.on_battery
            self.notice, self.rings = settings.notify, settings.bell
            if settings.reduced_motion:
                self.animation_level = "none"
            self.set_keymap(settings.keys)
        self.jobs.watch_workspace(self.workspace)
        if self.tidies:
            self.jobs.tidy_when_quiet()

    async def on_event(self, event: events.Event) -> None:
        """What comes from the terminal waits for its turn."""
        if not isinstance(event, events.InputEvent | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self.used_at = time.monotonic()
        await self.typed.take(event)

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        """Textual calls this to paint."""
        if renderable is not None:
            self.typed.painted()
        super()._display(screen, renderable)

    async def on_passed(self, message: Passed) -> None:
        """All that was sent before the marker has been handled."""
        message.stop()
        await self.typed.passed(message.number)

    def simulate_key(self, key: str) -> None:
        """Press a key for somebody who clicked on it."""
        self.call_later(self.typed.press, events.Key(key, None))

    async def _route(self, event: events.Event) -> None:
        """Hand an event to what has the focus. What is pasted goes there as far as it fits."""
        if isinstance(event, events.Key) and event.key == "ctrl+v" and takes_text(self.focused):
            event = events.Paste(self.clipboard)
        if isinstance(event, events.Paste):
            text = fitting(event.text, self.focused, self.screen, self.say_aloud)
            if text:
                await super().on_event(events.Paste(text))
            return
        await super().on_event(event)

    def goes_on_after(self, key: events.Key) -> bool:
        """More came behind `key`, too fast for a hand."""
        return self.typed.goes_on_after(key)

    def _typed_too_early(self) -> None:
        self.say_aloud("keys that were pressed before this was on the screen were left out")

    def say_aloud(self, text: str) -> None:
        """Say something that somebody who looks elsewhere must not miss."""
        self.bell()
        self.notify(safe(text), severity="warning", markup=False)

    async def action_quit(self) -> None:
        """Leave; runs go on."""
        self.jobs.stop()
        self.exit()

    # ---- what is known

    def runs_seen(self, runs: Sequence[RunStatus]) -> None:
        """The list of runs changed. The newest living run is followed unless another one was chosen."""
        lived = {run.run_id for run in self.state.runs if run.alive}
        if self.rings and any(run.run_id in lived and not run.alive for run in runs):
            self.bell()
        self.tell(replace(self.state, runs=tuple(runs)))
        living = [run for run in runs if run.alive]
        watched = self.state.watched
        follows = watched.run_id if watched and watched.is_alive else ""
        if chosen := next((run for run in runs if run.run_id == self.state.chosen), None):
            if chosen.alive and follows != chosen.run_id:
                self.attach(chosen.run_id)
        elif living and not follows:
            self._join(living[-1].run_id)
        elif watched is None and runs:
            self._join(runs[-1].run_id)

    def run_seen(self, view: RunView) -> None:
        """The followed run changed."""
        self.tell(replace(self.state, watched=view))

    def tell(self, state: AppState) -> None:
        """A new state, for the screen in front; the others are told when they come to the front."""
        self.state = state
        if page := self._page():
            page.take(state)

    def _page(self) -> Page | None:
        """The screen of the menu that is in front, be it behind a dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Page)), None)

    def attach(self, run_id: str) -> None:
        """Follow this run, also when another one begins."""
        self.tell(replace(self.state, chosen=run_id))
        self._join(run_id)

    def _join(self, run_id: str) -> None:
        self.guarded(lambda: self.jobs.watch_run(RunFolder.open(self.workspace.runs, run_id)))

    def follow_run(self, folder: RunFolder) -> None:
        """Follow a run that has just begun, and whatever lives after it."""
        self.tell(replace(self.state, chosen=""))
        self.jobs.watch_run(folder)

    def look_at(self, trace_id: str) -> None:
        """This trace is looked at now, by all screens that show one."""
        self.tell(replace(self.state, trace=trace_id))

    # ---- runs

    def start_recipe(self, name: str, settings: Sequence[str] = (), until: str = "",
                     accepted: Sequence[str] = (), then: str = "runs", queued: bool = False) -> None:
        """Start a run of a recipe (a file, or the name of a shipped one), follow it, and go to the screen `then`.
        queued: it begins once its device is free.
        Terms of use that nobody accepted are asked for first."""
        from localdistill import TermsQuestion, accept_terms, load_recipe, open_terms, recipe_file, start, typed_again

        if self._starts:
            return
        self._starts = True

        def begin() -> RunFolder | list[TermsQuestion]:
            path = recipe_file(name)
            recipe = load_recipe(path, settings)
            accept_terms(recipe, self.workspace, accepted)
            if questions := open_terms(recipe, self.workspace):
                return questions
            return start(self.workspace, recipe, path.read_text(encoding="utf-8"), path.resolve().parent, until,
                         named=typed_again(name, settings), on_battery=self.on_battery or "go",
                         end_by=self.end_of_races(), notify=self.notice, queued=queued)

        def refused(error: LocalDistillError) -> None:
            self._starts = False
            self.show_error(error)

        def begun(result: RunFolder | list[TermsQuestion]) -> None:
            self._starts = False
            if isinstance(result, RunFolder):
                self.follow_run(result)
                self.go(then)
                return
            names = [question.name for question in result]
            text = "\n\n".join(safe(question.text) for question in result)
            self.push_screen(ConfirmDialog(f"{text}\n\nGo on all the same?",
                                           lambda: self.start_recipe(name, settings, until, names, then, queued)))

        self.jobs.do(begin, begun, failed=refused)

    def cancel_run(self, run_id: str) -> None:
        """Ask a run to stop; asked again, it stops at once."""
        from localdistill import cancel

        def said(again: bool) -> None:
            self.notify(f"{line(run_id)} stops " + ("at once" if again else "at its next safe point"), markup=False)

        self.jobs.do(lambda: cancel(self.workspace, run_id), said)

    def resume_run(self, run_id: str, max_usd: float | None = None, spent_usd: float | None = None,
                   arm: str = "") -> None:
        """Continue a run and follow it; `arm` is what it exports from now on."""
        from localdistill import resume

        self.jobs.do(lambda: resume(self.workspace, run_id, max_usd, spent_usd, arm, self.on_battery,
                                    self.end_of_races(), self.notice or None),
                     self.follow_run)

    def end_of_races(self) -> float | None:
        """When races that start now are to end, in seconds since the epoch; None: when all their seeds are trained."""
        from localdistill import clock_time

        return clock_time(self.end_by) if self.end_by else None

    def action_ask_end_by(self) -> None:
        """Ask for the time, and keep it for the runs to come."""
        from localdistill import clock_time
        from tui.widgets.text_dialog import Field, TextDialog

        def typed(values: Mapping[str, str]) -> None:
            text = values["time"].strip()
            if text:
                clock_time(text)
            self.end_by = text
            self.notify(f"races end by {line(text)}, with as many seeds as fit" if text else
                        "races train all their seeds", markup=False)

        self.push_screen(TextDialog("End races by a time of day", [
            Field("time", "time", self.end_by, "07:00, or 2026-12-01 07:00; empty: all seeds are trained")], typed,
            "Of a race of several seeds that is started or resumed here as many are trained as fit, each measured "
            "before the next begins."))

    def action_toggle_battery(self) -> None:
        """Let runs wait for mains power from now on, or let them work on."""
        self.on_battery = "go" if self.on_battery == "pause" else "pause"
        self.notify("runs that are started or resumed here " + (
            "wait for mains power while the machine has none" if self.on_battery == "pause" else
            "work on without mains power"))

    def follow_step(self, command: str) -> None:
        """Do what a next step of Home says: a command of the command line."""
        from localdistill import model_to_chat

        verb, _, rest = command.partition(" ")
        target = rest.split(" ")[0]
        if verb in ("run", "evaluate", "export"):
            name, *options = shlex.split(rest)
            said = list(zip(options[::2], options[1::2], strict=False))
            chosen = [value for option, value in said if option == "--set"]
            seeds = [f"train.seeds={value}" for option, value in said if option == "--seeds"]
            self.start_recipe(name, [*chosen, *seeds], until="" if verb == "run" else verb)
        elif verb == "attach":
            self.attach(target)
            self.go("runs")
        elif verb == "resume" and "--max-usd" not in rest:
            self.resume_run(target)
            self.go("runs")
        elif verb == "chat":
            here = self.screen
            self.jobs.do(lambda: model_to_chat(self.workspace, rest),
                         lambda model: self.go("chat", file=model) if self.screen is here else None)
        else:
            self.go({"traces": "traces", "prompts": "traces", "import": "traces", "recipe": "recipe", "resume": "runs",
                     "exports": "export", "scores": "evaluate"}.get(verb, "home"))

    # ---- actions

    def go(self, name: str, **what: Unpack[Wanted]) -> None:
        """Bring a screen to the front and let it show `what`."""
        if name not in self._pages:
            self._pages[name] = load(name)()
            self.install_screen(self._pages[name], name)
        self._pages[name].came(what)
        while len(self.screen_stack) > 1 and self.screen.is_modal:
            self.pop_screen()
        if len(self.screen_stack) == 1:
            self.push_screen(name)
        elif self.screen is not self._pages[name]:
            self.switch_screen(name)

    def action_go(self, name: str) -> None:
        """Bring a screen to the front."""
        self.go(name)

    def action_explain(self) -> None:
        """Say what the screen is for and which keys it has."""
        self.push_screen(HelpDialog(self.screen, self.commands_now()))

    def commands_now(self) -> list[Command]:
        """What can be done here and now."""
        page = self._page()
        return [*(page.ACTIONS if page else ()), *_everywhere()]

    async def perform(self, command: Command) -> None:
        """Do it."""
        await self.run_action(command.action)

    def show_error(self, error: LocalDistillError) -> None:
        """What happened, what was kept, what to do."""
        self.push_screen(ErrorDialog(safe(error.message), safe(error.hint)))

    def _fatal_error(self) -> None:
        """Textual calls this when a handler failed, which ends the app: the terminal gets a sentence and a hint, not
        what was in memory."""
        error = self._exception or RuntimeError("the reason is not known")
        told, where = explain(error), ""
        if TRACEBACK_VARIABLE in os.environ:
            where = "".join(traceback.format_exception(error))
        self._exit_renderables[:] = [Text(safe(f"{where}error: {told.message}\n  try: {told.hint}\nRuns go on."))]
        self._close_messages_no_wait()

    def guarded(self, work: Callable[[], None]) -> None:
        """Do something short that may be refused."""
        try:
            work()
        except LocalDistillError as error:
            self.show_error(error)


def main(workspace: Path | None = None) -> None:
    """Open the UI and stay until it is closed."""
    app = LocalDistillApp(workspace)
    app.tidies = True
    app.run()
    if app.return_code:
        sys.exit(app.return_code)
