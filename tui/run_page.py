"""A screen that shows one run and acts on it: start, cancel, resume, raise the cap. Shared by the screens of single
stages; nothing here knows what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from localdistill import LocalDistillError, RunFolder, UsageError, budget_of, start
from tui.commands import Command
from tui.flows.asking import raise_cap
from tui.screens.base import Page
from tui.state import RunView
from tui.text import line
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, Way
from tui.widgets.recipe_picker import recipes_of
from tui.widgets.text_dialog import Field, PathDialog, TextDialog


def stage_commands(screen: str, stage: str) -> tuple[Command, ...]:
    """What every screen of a stage can do."""
    return (
        Command(f"{screen}.start", f"start: a recipe up to {stage}", stage, "screen.start_run", "s",
                "Runs in a process of its own; what is stored is not done again."),
        Command(f"{screen}.cancel", "cancel: this run", "cancel", "screen.cancel_run", "x",
                "Stops at the next safe point; a second time, at once. It can be resumed."),
        Command(f"{screen}.resume", "resume: this run", "resume", "screen.resume_run", "u",
                "Continues what failed, was cancelled, paused or died; what is done is skipped."),
    )


def cap_command(screen: str) -> Command:
    """Raise what a run may spend."""
    return Command(f"{screen}.raise_cap", "raise: the cap on money", "resume", "screen.raise_cap", "m",
                   "Asks for the new cap, and for a yes, before anything more is spent.")


class RunPage(Page):
    """A screen about one run."""

    ACTIONS: ClassVar[tuple[Command, ...]] = ()
    STAGE: ClassVar[str] = ""
    """The stage that `start` goes up to; empty goes to the end."""
    VERTICAL_BREAKPOINTS = [(0, "-low"), (36, "-tall")]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (78, "-normal"), (118, "-wide")]

    @property
    def run_id(self) -> str:
        """The run that actions mean; empty when there is none."""
        watched = self.ui.state.watched
        return watched.run_id if watched else ""

    @property
    def run_view(self) -> RunView | None:
        """What is known of it, when it is the followed one."""
        watched = self.ui.state.watched
        return watched if watched and watched.run_id == self.run_id else None

    def put(self, selector: str, content: Content) -> None:
        """Let the Static at `selector` show `content`; nothing moves when it shows that already."""
        static = self.query_one(selector, Static)
        before = static.content
        if not (isinstance(before, Content) and (before.plain, before.spans) == (content.plain, content.spans)):
            static.update(content)

    def action_start_run(self) -> None:
        """Choose a recipe and start it up to this stage."""
        ways = [Way(f"{self.run_id} once more", self._again, "the recipe and settings of this run")] * bool(self.run_id)
        found = recipes_of(self.ui.workspace.root)
        ways += [_recipe_way(self, path, "in this workspace") for path in found.own]
        ways += [_recipe_way(self, path, "ships with localdistill") for path in found.shipped]
        ways.append(Way("another file ...", self._ask_file, "the path of a recipe"))
        self.ui.push_screen(ChoiceDialog(f"Start a recipe up to {self.STAGE}" if self.STAGE else "Start a recipe",
                                         "What is stored is not asked or made again.", ways))

    def _ask_file(self) -> None:
        self.ui.push_screen(PathDialog("A recipe", self.start_file, self.ui.workspace.root, (".toml",)))

    def start_file(self, path: Path) -> None:
        """Start the recipe in this file."""
        here = type(self).__module__.rpartition(".")[2]
        self.ui.start_recipe(str(path), until=self.STAGE, then=here)

    def _again(self) -> None:
        self.start_again(self.STAGE)

    def start_again(self, until: str) -> None:
        """The recipe of the run once more, up to a stage; nothing where there is no run."""
        if run_id := self.run_id:
            self.ui.jobs.do(lambda: self._start_again(run_id, until), self.ui.follow_run)

    def _start_again(self, run_id: str, until: str) -> RunFolder:
        """With its settings and the folder its paths start from."""
        folder = RunFolder.open(self.ui.workspace.runs, run_id)
        return start(self.ui.workspace, folder.recipe(), folder.text(), Path(folder.request()["base"]), until,
                     on_battery=self.ui.on_battery or "go", end_by=self.ui.end_of_races(), notify=self.ui.notice)

    def action_cancel_run(self) -> None:
        """Ask the run to stop. One that ended is not meant while another one runs."""
        living = [run.run_id for run in self.ui.state.runs if run.alive]
        view = self.run_view
        if self.is_chosen or not living or self.run_id in living or (view is not None and view.is_alive):
            if self.run_id:
                self.ui.cancel_run(self.run_id)
        elif len(living) == 1:
            self.ui.cancel_run(living[0])
        else:
            self.ui.push_screen(ChoiceDialog("Stop which run?", "Several are running.", [
                Way(line(run_id), partial(self.ui.cancel_run, run_id)) for run_id in living]))

    @property
    def is_chosen(self) -> bool:
        """Somebody chose the run that actions mean on this screen."""
        return False

    def action_resume_run(self) -> None:
        """Continue the run. One that waits at its cap needs a higher one."""
        if self.run_view is not None and self.run_view.state == "paused":
            self.action_raise_cap()
        elif self.run_id:
            self.ui.resume_run(self.run_id)

    def action_raise_cap(self) -> None:
        """Ask for a new cap, then for a yes, then resume with it."""
        def look(run_id: str) -> tuple[float | None, str]:
            folder = RunFolder.open(self.ui.workspace.runs, run_id)
            return cap_of(folder), budget_of(folder).problem

        def ask(run_id: str, cap: float | None, problem: str) -> None:
            raise_cap(self.ui, run_id, cap, problem) if problem else self._ask_cap(run_id, cap)

        if run_id := self.run_id:
            self.ui.jobs.do(lambda: look(run_id), lambda found: ask(run_id, *found), group="cap")

    def _ask_cap(self, run_id: str, cap: float | None) -> None:
        spent = spent_usd(self.run_view) if self.run_view else None
        told = f"{run_id} has spent ${spent:,.4f}" if spent else f"{run_id} has spent nothing that is known"
        now = f"; its cap is ${cap:,.2f}." if cap is not None else "; it has no cap."

        def asked(values: Mapping[str, str]) -> None:
            new = _amount(values["cap"])
            question = ConfirmDialog(f"Go on with {run_id} and let it spend up to ${new:,.2f} in all?",
                                     lambda: self.ui.resume_run(run_id, new))
            self.ui.call_later(self.ui.push_screen, question)

        field = Field("cap", "New cap in US dollars", f"{2 * cap:g}" if cap else "", "all calls of the run together")
        self.ui.push_screen(TextDialog("Raise the cap and resume", [field], asked, told + now))


def _recipe_way(page: RunPage, path: Path, where: str) -> Way:
    return Way(path.stem, lambda: page.start_file(path), where)


def _amount(text: str) -> float:
    """Dollars as typed; UsageError when it is no amount."""
    try:
        amount = float(text.removeprefix("$"))
    except ValueError:
        amount = 0.0
    if not (amount > 0 and math.isfinite(amount)):
        raise UsageError("that is no amount above zero", "for example 2.50")
    return amount


def cap_of(folder: RunFolder) -> float | None:
    """Most dollars a run may spend: what its last resume said, else its recipe; None for no cap."""
    try:
        stated = folder.request().get("max_usd")
        return float(stated) if stated is not None else folder.recipe().max_usd
    except (OSError, ValueError, LocalDistillError):
        return None


def spent_usd(view: RunView) -> float | None:
    """What a run has spent so far; None when nothing of it is known."""
    return view.counters.get("usd") or view.latest("spent_usd")
