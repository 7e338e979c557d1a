"""Select: the filters of a run's recipe as a waterfall, what each would remove with other options, and the selections
that were saved. Trying counts and stores nothing; only the run that is started with the changes does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from textual.widget import Widget
from textual.widgets import Static

from localdistill import (
    DataChoice,
    LocalDistillError,
    Member,
    Removals,
    RunFolder,
    SavedSelection,
    Waterfall,
    removed_traces,
    run_again,
    saved_selections,
    try_filters,
    verdicts_of,
    waterfalls_of,
    with_option,
)
from tui.commands import Command
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.widgets.dialogs import ReportDialog
from tui.widgets.paged_table import ListRows, PagedTable
from tui.widgets.removed_dialog import RemovedDialog
from tui.widgets.text_dialog import Field, TextDialog
from tui.widgets.waterfall import (
    SAVED,
    STEPS,
    WaterfallRow,
    option_text,
    saved_rows,
    verdict_rows,
    waterfall_rows,
)

MOST_REMOVED = 500
"""Removed traces that are listed of each filter."""


@dataclass(frozen=True)
class SelectView:
    """What the screen can show."""

    run: RunFolder | None
    sets: Sequence[Waterfall]
    """Of every set of the run that filters work on."""
    saved: Sequence[SavedSelection]


class SelectPage(Page):
    """Filters and what they remove."""

    TITLE = "Select"
    HELP = ("What the filters remove, one after the other; a trace counts at the first filter that removes it. Change "
            "an option or switch a filter off and the counts follow at once: nothing is stored until w starts a run "
            "with the changes, up to the selection. What is collected is not asked again.")
    ACTIONS = (
        Command("select.run", "run: selection with these filters", "select", "screen.start_selecting", "w",
                "Starts a run of the same recipe up to the selection."),
        Command("select.change", "change: option of a filter", "select", "screen.change", "enter",
                "On a saved selection: opens its traces.", in_footer=False),
        Command("select.switch", "switch: filter on or off", "select", "screen.switch", "space"),
        Command("select.next_set", "switch: to the next set", "select", "screen.next_set", "n",
                "Where the run has several sets of traces.", in_footer=False),
        Command("select.undo", "undo: changed filters", "select", "screen.undo", "z", "Back to the run's own."),
        Command("select.traces", "open: traces of the selection", "traces", "screen.open_traces", "o",
                "In Traces; a saved one when the cursor stands on it."),
        Command("select.removed", "show: what is removed, and why", "removed", "screen.show_removed", "v",
                "By the filter under the cursor, or by all; with the options as they stand here."),
        Command("select.verdicts", "show: what the graders say of each set", "verdicts", "screen.show_verdicts", "b",
                "Right, wrong, undecided, and the means of their metrics.", in_footer=False),
        Command("select.export", "export: the selection to a file", "data export", "screen.export", "x",
                "For other tools.", in_footer=False),
        Command("select.saved", "show: saved selections", "selections", "screen.to_saved", "a", in_footer=False),
        Command("select.grade", "grade: what the run collected", "grade", "screen.again('grade')", "",
                "Starts a run of the same recipe up to its grades."),
    )
    CSS_PATH = "select.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._view: SelectView | None = None
        self._set = 0
        """Which of the sets is shown."""
        self._key = ("", "")
        self._filters: tuple[Member, ...] = ()
        self._off: frozenset[int] = frozenset()
        self._tried: Waterfall | None = None
        self._trying = False
        self._seen = False
        """Somebody went to the saved selections, or the waterfall had the focus once: it asks for it no more."""
        self._steps: list[WaterfallRow] = []

    def body(self) -> Iterable[Widget]:
        """Facts, the waterfall, a word about the line, the saved selections."""
        yield Static(shown("looking ...", "$foreground-muted"), id="facts")
        yield PagedTable(STEPS, id="steps")
        yield Static(id="about")
        yield Static(shown("saved selections", "bold"), id="saved-title")
        yield PagedTable(SAVED, id="saved")
        yield Static(id="nothing", classes="empty")

    def on_mount(self) -> None:
        """Nothing can be chosen before it is known what there is."""
        for name in ("#steps", "#saved", "#saved-title"):
            self.query_one(name).display = False

    # ---- what there is

    def show(self, state: AppState) -> None:
        """Another run, or one that came further, is looked at again."""
        watched = state.watched
        done = ",".join(s.name + s.state for s in watched.stages if s.state != "running") if watched else ""
        key = (watched.run_id if watched else "", done)
        if key != self._key or self._view is None:
            if key[0] != self._key[0]:
                self._forget()
            self._key = key
            self._look()

    def _look(self) -> None:
        run_id, workspace = self._key[0], self.ui.workspace

        def work() -> SelectView:
            run = RunFolder.open(workspace.runs, run_id) if run_id else None
            return SelectView(run, waterfalls_of(run) if run else (), saved_selections(workspace))

        self.ui.jobs.do(work, self._looked, group="select", failed=self._failed)

    def _looked(self, view: SelectView) -> None:
        is_changed = self._is_changed
        self._view = view
        if not is_changed:
            self._filters = self._stored.filters if self._stored else ()
        nothing = view.run is None and not view.saved
        for name in ("#steps", "#about", "#saved", "#saved-title", "#facts"):
            self.query_one(name).display = not nothing
        self.query_one("#nothing").display = nothing
        if nothing:
            self.query_one("#nothing", Static).update(shown(
                "Nothing to select from yet. Press 1 for Home and p there: the pantry world runs in minutes.",
                "$foreground-muted"))
            return
        self._draw_saved(view.saved)
        stored = self._stored
        if stored is not None and (stored.kept is None or self._is_changed) and stored.asked:
            self._try()
        self._draw()
        if self.focused is None and stored is None:
            self.query_one("#saved").focus()

    def _failed(self, error: LocalDistillError) -> None:
        self.query_one("#facts", Static).update(joined(shown(f"✗ {safe(error.message)}", "$text-error"),
                                                       shown(f"\n{safe(error.hint)}", "$foreground-muted")))

    def _forget(self) -> None:
        self._off, self._tried, self._trying = frozenset(), None, False
        self._filters = self._stored.filters if self._stored else ()

    @property
    def _stored(self) -> Waterfall | None:
        """The set that is shown, as the run left it."""
        sets = self._view.sets if self._view else ()
        return sets[min(self._set, len(sets) - 1)] if sets else None

    @property
    def _is_changed(self) -> bool:
        stored = self._stored
        return bool(self._off) or (stored is not None and bool(self._filters) and self._filters != stored.filters)

    @property
    def _active(self) -> tuple[Member, ...]:
        return tuple(member for place, member in enumerate(self._filters) if place not in self._off)

    # ---- changes

    def _try(self) -> None:
        view, stored = self._view, self._stored
        if view is None or view.run is None or stored is None:
            return
        run, active, trace_set = view.run, self._active, stored.trace_set
        self._trying = True

        def tried(found: Waterfall) -> None:
            self._trying, self._tried = False, found
            self._draw()

        def failed(error: LocalDistillError) -> None:
            self._trying, self._tried = False, None
            self._draw()
            self.ui.show_error(error)

        self.ui.jobs.do(lambda: try_filters(self.ui.workspace, run, active, trace_set), tried, group="select-try",
                        failed=failed)
        self._draw()

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        """Enter on a line."""
        self.action_change()

    def on_paged_table_moved(self, event: PagedTable.Moved) -> None:
        """A word about the line."""
        self._draw_about()

    def action_change(self) -> None:
        """Change the option under the cursor; on a saved selection, open it."""
        if self.query_one("#saved").has_focus:
            self.action_open_traces()
            return
        step = self._step
        if step is None or not step.option:
            self.action_switch()
            return
        member = self._filters[step.place]

        def done(values: Mapping[str, str]) -> None:
            self._filters = with_option(self._filters, step.place, step.option, values["value"])
            self._try()

        field = Field("value", f"{line(member.use)}.{line(step.option)}", option_text(member.options.get(step.option)))
        self.ui.push_screen(TextDialog("Try another value", [field], done, safe(step.help)))

    def action_switch(self) -> None:
        """Leave the filter out, or take it in again."""
        step = self._step
        if step is None or step.place < 0:
            return
        self._off = self._off ^ {step.place}
        self._try()

    def action_undo(self) -> None:
        """The run's own filters again."""
        self._forget()
        if self._stored and self._stored.kept is None:
            self._try()
        self._draw()

    def action_next_set(self) -> None:
        """The next set of the run, with its own filters; changes to this one are left behind."""
        if self._view is not None and len(self._view.sets) > 1:
            self._set = (self._set + 1) % len(self._view.sets)
            self.action_undo()

    def action_start_selecting(self) -> None:
        """Start a run up to the selection, with the filters as they stand here."""
        self._start("select", self._active if self._is_changed else None)

    def action_again(self, until: str) -> None:
        """Start a run of the same recipe up to a stage."""
        self._start(until, None)

    def _start(self, until: str, filters: Sequence[Member] | None) -> None:
        run, stored = self._view.run if self._view else None, self._stored
        if run is None or stored is None:
            return
        trace_set = stored.trace_set

        def started(folder: RunFolder) -> None:
            self.notify(f"{line(folder.id)} runs up to {line(until)}", markup=False)
            self.ui.attach(folder.id)

        self.ui.jobs.do(lambda: run_again(self.ui.workspace, run, until, filters, trace_set), started)

    def action_to_saved(self) -> None:
        """To the list of saved selections."""
        if self._view is not None:
            self._seen = True
            self.query_one("#saved").focus()

    def action_open_traces(self) -> None:
        """The traces of the saved selection under the cursor, else of this run's."""
        if selection := self._saved_selection():
            self.ui.go("traces", selection=selection)

    def action_show_removed(self) -> None:
        """What the filters remove as they stand here, with the reason of each."""
        view, stored, step = self._view, self._stored, self._step
        if view is None or view.run is None or stored is None or not stored.asked:
            return
        run, active, trace_set, workspace = view.run, self._active, stored.trace_set, self.ui.workspace
        is_on = step is not None and step.place >= 0 and step.place not in self._off
        by = self._filters[step.place].use if step is not None and is_on else ""

        def look() -> Removals:
            return removed_traces(workspace, run, trace_set, active, by, MOST_REMOVED)

        def chosen(trace_id: str) -> None:
            self.ui.go("traces", where=f"trace_id = '{trace_id}'")

        self.ui.push_screen(RemovedDialog(look, chosen))

    def action_show_verdicts(self) -> None:
        """The table of verdicts of the run."""
        view, workspace = self._view, self.ui.workspace
        if view is None or view.run is None:
            return
        run = view.run
        report = ReportDialog("Verdicts", waiting="looking ...")
        self.ui.push_screen(report)
        self.ui.jobs.do(lambda: verdicts_of(workspace, run), lambda found: report.fill(verdict_rows(found)),
                        failed=report.fail)

    def action_export(self) -> None:
        """Ask for a file, and write the same traces to it."""
        from tui.flows.data import export_traces

        if selection := self._saved_selection():
            export_traces(self.ui, DataChoice(selection))

    def _saved_selection(self) -> str:
        """The saved selection under the cursor, else this run's; empty where there is none."""
        view = self._view
        table = self.query_one("#saved", PagedTable)
        if view is None:
            return ""
        if table.has_focus and view.saved:
            return str(view.saved[table.cursor].id)
        if (stored := self._stored) is None or stored.kept is None:
            return ""
        own = (s.id for s in view.saved if s.definition.get("run") == stored.run_id and s.name == stored.name)
        return str(next(own, stored.name))

    # ---- drawing

    @property
    def _step(self) -> WaterfallRow | None:
        cursor = self.query_one("#steps", PagedTable).cursor
        return self._steps[cursor] if cursor < len(self._steps) else None

    def _draw(self) -> None:
        view, stored = self._view, self._stored
        if view is None or stored is None:
            self.query_one("#facts", Static).update(
                shown("No run is followed: Runs (r) lists them.", "$foreground-muted"))
            self.query_one("#steps").display = False
            return
        shape = self._tried if self._is_changed or stored.kept is None else stored
        rows, self._steps = waterfall_rows(stored, self._filters, self._off, shape)
        table = self.query_one("#steps", PagedTable)
        table.show(ListRows(rows), table.cursor)
        kept = shape.kept if shape else None
        where = "" if len(view.sets) == 1 else f"  set {view.sets.index(stored) + 1} of {len(view.sets)}:"
        parts = [shown(line(stored.run_id), "bold"),
                 shown(f"{where}  selection '{line(stored.name)}'  ", "$foreground-muted"),
                 shown(f"{stored.asked:,} traces → " + ("?" if kept is None else f"{kept:,} kept"), "bold")]
        if self._trying:
            parts.append(shown("  counting ...", "$foreground-muted"))
        elif self._is_changed:
            parts.append(shown("  changed: w runs it, z undoes", "$text-warning"))
        elif shape is self._tried and shape is not None:
            parts.append(shown("  counted now; the run has not selected yet", "$foreground-muted"))
        if shape is not None and any(step.removed is None for step in shape.steps):
            parts.append(shown("\nFilters that are not SQL are counted by a run only: there are many traces.",
                               "$foreground-muted"))
        self.query_one("#facts", Static).update(joined(*parts))
        if not self._seen:
            self._seen = True
            table.focus()
        self._draw_about()

    def _draw_about(self) -> None:
        if self.query_one("#saved").has_focus:
            text = "enter opens the traces of this selection"
        else:
            step = self._step
            text = "" if step is None else f"{line(step.help, 400)}  enter changes it" if step.option else (
                "space switches this filter off or on" if step.place >= 0 else "")
        self.query_one("#about", Static).update(shown(text, "$foreground-muted"))

    def on_descendant_focus(self) -> None:
        """The other table."""
        self._draw_about()

    def _draw_saved(self, saved: Sequence[SavedSelection]) -> None:
        self.query_one("#saved", PagedTable).show(ListRows(saved_rows(saved)))
        self.query_one("#saved-title").display = bool(saved)
