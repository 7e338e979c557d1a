"""Home: the workspace at a glance, the chain, the next sensible step, recent runs. An empty folder shows a short guide
whose keys each make something real happen; a workspace that cannot be read says why, in place, and loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import LocalDistillError, RunStatus, StoreLocked
from tui.commands import Command
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.widgets.facts import DIM, MUTED, Facts
from tui.widgets.log import SaidLog
from tui.widgets.pipeline import Pipeline
from tui.widgets.result_box import ResultBox

if TYPE_CHECKING:
    from localdistill import ImportReport, Overview

WAYS = (
    ("p", "try the pantry world", "the whole chain, tiny and offline: about eight minutes"),
    ("e", "open a recipe", "what ships, explained; a copy becomes yours"),
    ("i", "import a file", "questions or traces; three rows are shown first"),
)
RUNS_SHOWN = 50
STORE_WAIT_S = 3.0
LOOK_AGAIN_S = 2.0
"""A store that is held is looked at again by itself."""
MARKS = {"running": ("▶", "$success"), "starting": ("▶", "$success"), "finished": ("✓", DIM),
         "failed": ("✗", "$error")}


@dataclass(frozen=True)
class Seen:
    """The workspace, and whether anything can be written into it."""

    overview: Overview
    is_writable: bool

    @property
    def is_empty(self) -> bool:
        """Nothing was done here yet."""
        return not self.overview.run and ("stored", "nothing yet") in self.overview.facts


class HomePage(Page):
    """Where everything begins."""

    TITLE = "Home"
    HELP = ("What this workspace holds and what would be a sensible next step. Enter on a step or a run does it or "
            "opens it; the numbers open the other screens.")
    ACTIONS = (
        Command("home.pantry", "try: the pantry world", "run", "screen.pantry", "p",
                "Runs the whole chain on a tiny embedded world, in about eight minutes on two cores."),
        Command("home.import", "import: a file", "import", "screen.import_file", "i",
                "Shows three rows of it before anything is stored."),
        Command("home.hub", "import: a data set of the hub", "import", "screen.import_from_hub", "",
                "By its address; what came in is kept when the network ends."),
        Command("home.doctor", "examine: this machine", "doctor", "screen.examine_machine", "d",
                "Hardware, packages, disk, and one token through llama.cpp."),
        Command("home.students", "choose: a student", "models", "screen.pick_student", "",
                "Which kinds there are, and what of training, export and serving works for a model here."),
        Command("home.refresh", "look again: workspace", "status", "screen.refresh_overview", "ctrl+r",
                in_footer=False),
    )
    CSS_PATH = "home.tcss"
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]

    def __init__(self) -> None:
        super().__init__()
        self._seen: Seen | None = None
        self._trouble: LocalDistillError | None = None
        self._runs: tuple[RunStatus, ...] | None = None

    def body(self) -> Iterable[Widget]:
        """The guide, or chain, facts, steps and runs."""
        yield Static(id="trouble")
        with Vertical(id="guide"):
            yield Static(id="welcome")
            yield OptionList(*(Option(_way(*way), id=way[0]) for way in WAYS), id="ways", markup=False)
            yield Facts(id="guide-facts")
        with Vertical(id="chain-box"):
            yield Static(shown("chain", "bold"), classes="title", id="chain-title")
            yield Pipeline(id="chain")
        with Container(id="columns"):
            with Vertical(id="left"):
                yield Static(id="result-title", classes="title")
                yield ResultBox(id="result", rows=True)
                yield Static(shown("next", "bold"), classes="title", id="next-title")
                yield OptionList(id="steps", markup=False)
                yield Static(shown("runs", "bold"), classes="title", id="runs-title")
                yield OptionList(id="recent", markup=False)
            with Vertical(id="right"):
                yield Static(shown("workspace", "bold"), classes="title")
                yield Static(shown("looking at the workspace ...", MUTED), id="looking")
                yield Facts(id="facts")
                yield Static(shown("last said", "bold"), classes="title", id="said-title")
                yield SaidLog(folds=True, id="last-said")

    def on_mount(self) -> None:
        """Look once the frame stands."""
        self._arrange()
        self.call_after_refresh(self.action_refresh_overview)

    def action_refresh_overview(self) -> None:
        """Look at the workspace again."""
        workspace = self.ui.workspace

        def work() -> Seen:
            from localdistill import survey  # in the thread: the first picture does not wait for it

            return Seen(survey(workspace, STORE_WAIT_S), os.access(workspace.root, os.W_OK | os.X_OK))

        self.ui.jobs.do(work, self._surveyed, group="survey", failed=self._unreadable)

    def _surveyed(self, seen: Seen) -> None:
        self._seen, self._trouble = seen, None
        overview = seen.overview
        self.query_one("#looking").display = False
        self.query_one("#facts", Facts).show([("folder", str(overview.root)), *overview.facts])
        self.query_one("#welcome", Static).update(_welcome(str(overview.root)))
        self.query_one("#guide-facts", Facts).show([f for f in overview.facts if f[0] in ("machine", "disk")])
        self.query_one(ResultBox).show(overview.result)
        self.query_one("#result-title").display = overview.result is not None
        title = joined(shown("result", "bold"), shown(f" of {line(overview.result_run)}", MUTED))
        self.query_one("#result-title", Static).update(title)
        steps = self.query_one("#steps", OptionList)
        steps.clear_options()
        steps.add_options([Option(_step(step.text, step.command)) for step in overview.next_steps])
        steps.highlighted = 0
        self._arrange()
        self._say(self.ui.state)
        self._draw_chain(self.ui.state)

    def _unreadable(self, error: LocalDistillError) -> None:
        self._trouble = error
        self._arrange()
        if isinstance(error, StoreLocked):
            self.set_timer(LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        if self._trouble is not None and self.is_current:
            self.action_refresh_overview()

    def _arrange(self) -> None:
        """Show what fits what is known: trouble, guide, or the workspace."""
        trouble, seen = self._trouble, self._seen
        is_empty = seen is not None and seen.is_empty and not self.ui.state.runs and trouble is None
        is_shut = seen is not None and not seen.is_writable
        said = self.query_one("#trouble", Static)
        said.display = trouble is not None or is_shut
        if trouble is not None:
            said.update(_trouble(trouble))
        elif is_shut:
            said.update(_shut(str(self.ui.workspace.root)))
        was_empty = self.query_one("#guide").display
        self.query_one("#guide").display = is_empty
        self.query_one("#chain-box").display = not is_empty
        self.query_one("#columns").display = not is_empty
        self.query_one("#right").display = trouble is None
        has_steps = seen is not None and trouble is None
        self.query_one("#next-title").display = self.query_one("#steps").display = has_steps
        self.query_one("#runs-title").display = self.query_one("#recent").display = bool(self.ui.state.runs)
        if is_empty and not was_empty:
            self.query_one("#ways").focus(scroll_visible=False)
        elif not is_empty and self.focused is None and seen is not None and trouble is None:
            self.query_one("#steps").focus(scroll_visible=False)  # the page begins at its top

    def show(self, state: AppState) -> None:
        """The chain follows the run that is watched; the list follows the runs."""
        self._draw_chain(state)
        self._say(state)
        if state.runs == self._runs:
            return
        before, self._runs = self._runs, state.runs
        recent = self.query_one("#recent", OptionList)
        chosen = recent.highlighted
        recent.clear_options()
        recent.add_options([Option(_run_line(run), id=run.run_id) for run in reversed(state.runs[-RUNS_SHOWN:])])
        recent.highlighted = min(chosen, recent.option_count - 1) if chosen is not None and state.runs else None
        self._arrange()
        if before is not None and [r.state for r in before] != [r.state for r in state.runs]:
            self.action_refresh_overview()

    def _say(self, state: AppState) -> None:
        """What the followed run said, as long as it works, or where there is no result in place of it."""
        watched, seen = state.watched, self._seen
        speaks = watched is not None and (watched.is_alive or seen is None or seen.overview.result is None)
        self.query_one("#said-title").display = self.query_one(SaidLog).display = speaks
        if watched is not None and speaks:
            self.query_one(SaidLog).show(watched.said)

    def _draw_chain(self, state: AppState) -> None:
        stages: list[tuple[str, str]]
        if state.watched is not None and state.watched.stages:
            stages, run = [(stage.name, stage.state) for stage in state.watched.stages], state.watched.run_id
        elif self._seen is not None:
            overview = self._seen.overview
            stages, run = [(step.stage, step.state) for step in overview.chain], overview.run
        else:
            return
        self.query_one("#chain-title", Static).update(_chain_title(run))
        self.query_one(Pipeline).show(stages)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A step is done, a run is opened."""
        if event.option_list.id == "ways":
            {"p": self.action_pantry, "e": self.action_recipes, "i": self.action_import_file}[str(event.option_id)]()
        elif event.option_list.id == "recent" and event.option_id:
            self.ui.attach(event.option_id)
            self.ui.go("runs")
        elif self._seen is not None:
            self._follow(self._seen.overview.next_steps[event.option_index].command)

    def _follow(self, command: str) -> None:
        verb = command.partition(" ")[0]
        if verb == "recipe" and "--from-store" in command:
            from tui.flows.recipes import recipe_of_store

            recipe_of_store(self.ui)
            return
        own = {"import": self.action_import_file, "doctor": self.action_examine_machine, "recipe": self.action_recipes}
        if verb in own:
            own[verb]()
        else:
            self.ui.follow_step(command)

    def action_pantry(self) -> None:
        """Start the shipped world; go to its newest run when there is one."""
        if found := next((run for run in reversed(self.ui.state.runs) if run.recipe == "pantry"), None):
            self.ui.attach(found.run_id)
            self.ui.go("runs")
            if not found.alive:
                self.notify(f"{line(found.run_id)} is {line(found.state)}: "
                            + ("s starts another run" if found.state == "finished" else "u goes on with it"),
                            markup=False)
        else:
            self.ui.start_recipe("pantry")

    def action_recipes(self) -> None:
        """Go where recipes are."""
        self.ui.go("recipe")

    def action_import_file(self) -> None:
        """Choose a file, look at three rows, store it."""
        from tui.widgets.import_dialog import ImportDialog

        self.ui.push_screen(ImportDialog(self.ui.workspace.root, self._imported))

    def action_import_from_hub(self) -> None:
        """Ask for an address, import what is there."""
        from tui.flows.hub import import_from_hub

        import_from_hub(self.ui)

    def _imported(self, report: ImportReport) -> None:
        text = (f"{line(report.file, 60)}: {report.rows:,} rows, {report.new_prompts:,} new prompts, "
                f"{report.new_traces:,} new traces")
        if report.left_out:
            text += f"; {report.left_out:,} left out: {'; '.join(line(one, 120) for one in report.examples[:2])}"
        if report.unused:
            text += f"; columns not used: {line(', '.join(report.unused), 120)}"
        if report.ended_early:
            text += f"; not read to its end: {line(report.ended_early, 120)}"
        self.ui.notify(safe(f"{text}; {report.note}" if report.note else text), title="imported", markup=False)
        self.action_refresh_overview()

    def action_pick_student(self) -> None:
        """Say what works for a student."""
        from tui.flows.students import pick_student

        pick_student(self.ui)

    def action_examine_machine(self) -> None:
        """Say what this machine is and what is missing."""
        from tui.flows.examining import examine_machine

        examine_machine(self.ui)


def _way(key: str, title: str, text: str) -> Content:
    return joined(shown(f"{key}  ", "bold $accent"), shown(title, "bold"), shown(f"\n   {text}", DIM))


def _welcome(root: str) -> Content:
    return joined(shown("Nothing has been done in this folder yet.", "bold"), shown(f"\n{line(root)}\n", MUTED),
                  shown("\nThree keys, and each makes something real happen:\n"))


def _step(text: str, command: str) -> Content:
    return joined(shown(line(text)), shown(f"\n  localdistill {line(command)}", DIM))


def _chain_title(run: str) -> Content:
    return joined(shown("chain", "bold"), shown(f" of {line(run)}" if run else "", MUTED))


def _trouble(error: LocalDistillError) -> Content:
    title = "The store is held by another process" if isinstance(error, StoreLocked) else \
        "This workspace cannot be read"
    again = "It is looked at again until it is free" if isinstance(error, StoreLocked) else "ctrl+r looks again"
    return joined(shown(f"✗ {title}\n", "bold $error"), shown(error.message),
                  shown(f"\nnext: {error.hint}" if error.hint else ""),
                  shown(f"\nNothing was changed. {again}; runs that live go on.", MUTED))


def _shut(root: str) -> Content:
    return joined(shown("! This folder cannot be written\n", "bold $warning"), shown(line(root)),
                  shown("\nnext: correct its rights, or open another folder: localdistill tui --workspace FOLDER"),
                  shown("\nWhat is here can be read; runs and imports would fail.", MUTED))


def _run_line(run: RunStatus) -> Content:
    mark, style = MARKS.get(run.state, ("!", "$warning"))
    return joined(shown(f"{mark} ", style), shown(f"{line(run.run_id, 40):<24} "),
                  shown(f"{line(run.state):<12}", style), shown(line(run.stage), DIM))
