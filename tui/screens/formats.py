"""Formats: one trace as every arm and format would teach it, side by side, what is trained told from what is only read,
and how long the rows of the datasets are against the student's limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from localdistill import (
    DatasetShape,
    LaidOut,
    Layouter,
    LocalDistillError,
    RunFolder,
    TrainedSpan,
    UsageError,
    browse,
    dataset_shapes,
    lay_out_everywhere,
    layouter_of,
    run_again,
)
from tui.commands import Command
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.widgets.histogram import Histogram, Lengths
from tui.widgets.text_dialog import Field, TextDialog

COLUMN_WIDTH = 44
MOST_COLUMNS = 4
TALL = 34
WITH_MEDIAN = 76
LONGEST_SPAN = 20_000


@dataclass(frozen=True)
class FormatsView:
    """What the screen can show: the run it belongs to, its traces, its datasets."""

    run: RunFolder | None
    ids: Sequence[str]
    layouter: Layouter
    datasets: Sequence[DatasetShape]
    problem: str = ""
    """Why the datasets cannot be read."""


class FormatColumn(VerticalScroll, can_focus=True):
    """One trace in one format; the arrows scroll."""

    def compose(self) -> Iterable[Widget]:
        """One text."""
        yield Static(classes="row")

    def show(self, row: LaidOut, whole: bool) -> None:
        """Draw the row."""
        self.query_one(Static).update(joined(*_row_parts(row, whole)))


class FormatsPage(Page):
    """One trace in all formats."""

    TITLE = "Formats"
    HELP = ("How the layout decides what a student learns: the same trace as every arm of the run teaches it, then in "
            "the formats that no arm uses. █ marks what is trained, ░ what is only read. `thinks` says whether the "
            "student is to think. Below: how long the rows of the datasets are against the longest that it takes.")
    ACTIONS = (
        Command("formats.right", "turn: to the next format", "show", "screen.turn(1)", "right", in_footer=False),
        Command("formats.left", "turn: to the previous format", "show", "screen.turn(-1)", "left", in_footer=False),
        Command("formats.next", "next: trace", "show", "screen.step(1)", "n", "Of the run's selection, or as stored."),
        Command("formats.previous", "back: to the previous trace", "show", "screen.step(-1)", "b"),
        Command("formats.pick", "pick: trace by its id", "show", "screen.pick", "i",
                "The first characters are enough."),
        Command("formats.whole", "show: all of a long text", "show", "screen.whole", "m", in_footer=False),
        Command("formats.lengths", "lengths: of the datasets", "datasets", "screen.lengths", "l",
                "Opens or closes the histogram."),
        Command("formats.export", "export: training rows of an arm to a file", "data export", "screen.export", "x",
                "In a layout that other tools read, or as tokens with their masks.", word="data out"),
        Command("formats.run", "format: recipe of the run", "format", "screen.again('format')", "w",
                "Starts a run of the same recipe up to its datasets."),
        Command("formats.rewrite", "rewrite: traces of the run", "rewrite", "screen.again('rewrite')", "",
                "Starts a run of the same recipe up to its rewrites."),
    )
    CSS_PATH = "formats.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._view: FormatsView | None = None
        self._run = ""
        self._state = ""
        self._place = 0
        self._trace = ""
        self._rows: Sequence[LaidOut] = ()
        self._first = 0
        self._whole = False
        self._lengths = True

    def body(self) -> Iterable[Widget]:
        """Facts, names of the formats, columns, lengths."""
        yield Static(shown("looking ...", "$foreground-muted"), id="facts")
        yield Static(id="tabs")
        with Horizontal(id="columns"):
            for number in range(MOST_COLUMNS):
                yield FormatColumn(id=f"column-{number}")
        yield Histogram(id="lengths")
        yield Static(id="nothing", classes="empty")

    # ---- what there is

    def show(self, state: AppState) -> None:
        """Another run, or one that came further, is looked at again; a trace chosen elsewhere is shown."""
        run = state.watched.run_id if state.watched else ""
        done = ",".join(f"{s.name}:{s.state}" for s in state.watched.stages) if state.watched else ""
        if (run, done) != (self._run, self._state) or self._view is None:
            self._run, self._state = run, done
            self._look()
        elif state.trace and state.trace != self._trace:
            self._show_trace(state.trace)

    def _look(self) -> None:
        run_id, workspace = self._run, self.ui.workspace

        def work() -> FormatsView:
            run = RunFolder.open(workspace.runs, run_id) if run_id else None
            ids: Sequence[str] = (run.ids("select") or run.ids("collect")) if run else ()
            if not ids:
                browser = browse(workspace)
                browser.resolve()
                ids = [row.id for row in browser.page(0, 1000)]
            datasets: Sequence[DatasetShape] = ()
            problem = ""
            if run is not None:
                try:
                    datasets = dataset_shapes(workspace, run)
                except UsageError:
                    datasets = ()
                except LocalDistillError as error:
                    problem = error.message
            return FormatsView(run, ids, layouter_of(run), datasets, problem)

        self.ui.jobs.do(work, self._looked, group="formats", failed=self._failed)

    def _looked(self, view: FormatsView) -> None:
        self._view = view
        self._draw_lengths()
        wanted = self.ui.state.trace or self._trace or (view.ids[0] if view.ids else "")
        if wanted:
            self._show_trace(wanted)
        else:
            self._say("No traces yet. Press 1 for Home and p there: the pantry world runs in minutes.\n"
                      "Or bring traces in: localdistill import FILE")

    def _failed(self, error: LocalDistillError) -> None:
        self._say(f"{safe(error.message)}\n{safe(error.hint)}")

    def _say(self, text: str) -> None:
        for name in ("#tabs", "#columns", "#lengths", "#facts"):
            self.query_one(name).display = False
        nothing = self.query_one("#nothing", Static)
        nothing.display = True
        nothing.update(shown(text, "$foreground-muted"))

    # ---- one trace

    def _show_trace(self, trace_id: str) -> None:
        view = self._view
        if view is None:
            return
        self._trace = trace_id
        self._place = _index(view.ids, trace_id, self._place)
        if not self._rows:
            self.query_one("#facts", Static).update(shown("laying a trace out in every format ...",
                                                          "$foreground-muted"))

        def done(rows: Sequence[LaidOut]) -> None:
            self._rows = rows
            self._draw()

        self.ui.jobs.do(lambda: lay_out_everywhere(self.ui.workspace, trace_id, view.run, view.layouter), done,
                        group="formats-trace", failed=self.ui.show_error)

    def action_step(self, by: int) -> None:
        """Another trace."""
        if self._view and self._view.ids:
            self._place = (self._place + by) % len(self._view.ids)
            self._look_at(self._view.ids[self._place])

    def action_pick(self) -> None:
        """A trace by its id."""
        def done(values: Mapping[str, str]) -> None:
            if values["id"]:
                self._look_at(values["id"])

        field = Field("id", "id", help="the first characters are enough")
        self.ui.push_screen(TextDialog("Show a trace", [field], done))

    def _look_at(self, trace_id: str) -> None:
        self._trace = ""  # the same one is shown anew when it is asked for again
        self.ui.look_at(trace_id)

    def action_export(self) -> None:
        """Write the training rows of an arm to a file: of the one in front, unless another is named."""
        from tui.flows.data import export_arm

        arms = [data.arm for data in self._view.datasets] if self._view else []
        if not arms:
            self.notify("no training rows to write: they come with the format stage of a run", markup=False)
            return
        shown_arms = [arm for row in self._rows[self._first:] if row.is_arm for arm in arms
                      if arm in (row.name, row.name.rpartition(" ")[0])]
        export_arm(self.ui, self._run, arms, (shown_arms or arms)[0])

    def action_again(self, until: str) -> None:
        """Start a run of the same recipe up to a stage, and follow it."""
        run = self._view.run if self._view else None
        if run is None:
            return

        def started(folder: RunFolder) -> None:
            self.notify(f"{line(folder.id)} runs up to {line(until)}", markup=False)
            self.ui.attach(folder.id)

        self.ui.jobs.do(lambda: run_again(self.ui.workspace, run, until), started)

    # ---- drawing

    def on_resize(self) -> None:
        """As many columns as fit."""
        self._draw()
        self._draw_lengths()

    def action_turn(self, by: int) -> None:
        """Other formats come to the front."""
        self._first = max(0, min(self._first + by, len(self._rows) - 1))
        self._draw()

    def action_whole(self) -> None:
        """Draw long texts to their end."""
        self._whole = not self._whole
        self._draw()

    def action_lengths(self) -> None:
        """Open or close the histogram."""
        if not (self._view and (self._view.datasets or self._view.problem)):
            self.notify("no data set to measure: lengths come with the format stage of a run", markup=False)
            return
        self._lengths = not self._lengths
        self._draw_lengths()

    @property
    def _fitting(self) -> int:
        return max(1, min(MOST_COLUMNS, len(self._rows), self.size.width // COLUMN_WIDTH))

    def _draw(self) -> None:
        if not self._rows or not self.is_mounted:
            return
        self.query_one("#nothing").display = False
        for name in ("#tabs", "#columns", "#facts"):
            self.query_one(name).display = True
        fitting = self._fitting
        first = max(0, min(self._first, len(self._rows) - fitting))
        self._first = first
        for number in range(MOST_COLUMNS):
            column = self.query_one(f"#column-{number}", FormatColumn)
            column.display = number < fitting
            if number < fitting:
                column.show(self._rows[first + number], self._whole)
        if not isinstance(self.focused, FormatColumn) or not self.focused.display:
            self.query_one("#column-0").focus()
        self._draw_head(first, fitting)

    def _draw_head(self, first: int, fitting: int) -> None:
        count = len(self._view.ids) if self._view else 0
        run = f"{line(self._run)}: " if self._run else ""
        self.query_one("#facts", Static).update(joined(
            shown(f"{run}trace {self._place + 1:,} of {count:,}  ", "bold"),
            shown(line(self._trace), "$foreground-muted")))
        parts: list[Content] = [shown("‹ " if first else "  ", "bold")]
        for number, row in enumerate(self._rows):
            here = first <= number < first + fitting
            parts.append(shown(f" {line(row.name)} ", "bold reverse" if here else "$foreground-muted"))
            parts.append(shown(" "))
        parts.append(shown("›" if first + fitting < len(self._rows) else "", "bold"))
        self.query_one("#tabs", Static).update(joined(*parts))

    def _draw_lengths(self) -> None:
        chart = self.query_one("#lengths", Histogram)
        datasets = self._view.datasets if self._view else ()
        problem = self._view.problem if self._view else ""
        chart.display = bool(datasets or problem) and self._lengths
        if problem:
            chart.fail(problem)
        if not datasets or not chart.display:
            return
        middle = self.size.width >= WITH_MEDIAN
        rows = [Lengths(data.arm, f"{len(data.lengths):,} rows, " + (f"median {data.median:,}, " if middle else "")
                        + f"longest {data.longest:,}"
                        + (f", {data.groups:,} groups" if data.groups else "")
                        + (f", {data.wrong:,} wrong" if data.wrong else "")
                        + (f", {sum(data.left_out.values()):,} left out" if data.left_out else ""), data.lengths)
                for data in datasets]
        tall = self.size.height >= TALL + 6 * len(rows) // 2
        chart.show(rows, datasets[0].limit, tall)


def _index(ids: Sequence[str], trace_id: str, before: int) -> int:
    for number, known in enumerate(ids):
        if known == trace_id or known.startswith((trace_id, f"b2:{trace_id}")):
            return number
    return before


def _row_parts(row: LaidOut, whole: bool) -> Iterator[Content]:
    kind = f"format {line(row.format)}" if row.is_arm else "no arm uses this format"
    yield shown(f"{line(row.name)}", "bold")
    yield shown(f"  {kind}\n", "$foreground-muted")
    if row.skipped:
        yield shown(f"✗ no row: {line(row.skipped)}\n", "$text-warning")
        return
    yield shown(f"{row.tokens:,} tokens, ")
    yield shown(f"█ {row.trained_tokens:,} trained", "bold $text-success")
    yield shown(f"   thinks: {'yes' if row.thinks else 'no'}\n")
    if row.sign < 0:
        yield shown("− shown as what not to do\n", "$text-warning")
    if row.beside:
        yield shown(f"seen together with {line(', '.join(row.beside))}\n", "$foreground-muted")
    for span in row.spans:
        yield from _span_parts(span, whole)


def _span_parts(span: TrainedSpan, whole: bool) -> Iterator[Content]:
    trained = span.weight > 0
    mark, word = ("█", "trained") if trained else ("░", "read only")
    weight = f", weight {span.weight:g}" if trained and span.weight != 1 else ""
    style = "$text-success" if trained else "$foreground-muted"
    yield shown(f"\n{mark} {word}, {span.tokens:,} tokens{weight}\n", style)
    text = span.text if whole or len(span.text) <= LONGEST_SPAN else span.text[:LONGEST_SPAN]
    body = text.rstrip("\n")
    yield shown(body, style)
    yield shown("↵" * min(8, len(text) - len(body)) + "\n", "$foreground-muted")
    if len(text) < len(span.text):
        yield shown(f"… {len(span.text) - len(text):,} more characters: m shows them\n", "$text-warning")
