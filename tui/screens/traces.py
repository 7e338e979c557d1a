"""Traces: a table over all that is stored, filtered, searched and ordered, and one trace in full. The table holds row
numbers only; pages come from the store in a thread while one scrolls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from localdistill import (
    TRACE_ORDERS,
    Browser,
    DataChoice,
    Judged,
    LocalDistillError,
    Trace,
    TraceDetail,
    UsageError,
    browse,
    favourite_trace,
    judge,
    judgement_among,
    note_trace,
    retag_trace,
    trace_detail,
)
from tui.flows.forgetting import forget_prompt
from tui.flows.judging import Judging
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.trace_actions import ACTIONS
from tui.ui import Wanted
from tui.widgets.ask_line import AskLine
from tui.widgets.paged_table import PagedTable
from tui.widgets.trace_list import TraceList
from tui.widgets.trace_text import TraceText

LINES: Mapping[str, tuple[str, str]] = {
    "filter": ("filter (SQL):", "score = 0 AND completion_tokens > 500"), "search": ("search:", "any text"),
    "selection": ("selection:", "name of a saved selection"), "tags": ("tags:", "words that it is to have"),
    "note": ("note:", "why it is right or wrong"),
}
"""What can be typed: what the line is called, and an example."""
WIDE = 120
SAMPLE = 20
"""Traces of a sample."""


class TracesPage(Page):
    """All traces, and one of them closely."""

    TITLE = "Traces"
    HELP = ("Every stored trace. A filter is an SQL condition on one trace, over the columns of trace_view: score, "
            "status, model, completion_tokens, cost_usd, rewrite, source, labels, question, reasoning, answer, "
            "extracted and more, and what graders and labels say, by their names. It is worked out in a process of "
            "its own. A search finds text in question, thinking and answer and shows the first hits first.")
    ACTIONS = ACTIONS
    CSS_PATH = "traces.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._asked = {"filter": "", "search": "", "selection": ""}
        self._order = TRACE_ORDERS[0]
        self._drawn = 0
        """The number of the sample that is shown; 0 shows all."""
        self._opened = ""
        self._problem = ""
        self._ended: tuple[str, ...] = ()

    def body(self) -> Iterable[Widget]:
        """One line of facts, the line to type into, the table, the trace."""
        yield Static(id="facts")
        yield AskLine(id="ask-line")
        with Horizontal(id="lists"):
            yield TraceList(id="list")
            yield TraceText(id="one")
        yield Static(id="nothing", classes="empty")

    # ---- the view

    @property
    def _list(self) -> TraceList:
        """The table."""
        return self.query_one(TraceList)

    @property
    def _browser(self) -> Browser | None:
        return self._list.browser

    def on_mount(self) -> None:
        """Look once the frame stands."""
        self._judging = Judging(self.ui, self._judged, self._refused)
        self.call_after_refresh(self.action_look_again)
        self.query_one("#list").focus()

    def came(self, what: Wanted) -> None:
        """To see the traces of a selection, or those that meet a condition."""
        selection, where = what.get("selection", ""), what.get("where", "")
        if selection or where:
            self._asked = {"filter": where, "search": "", "selection": selection}
            if self.is_mounted:
                self.action_look_again()

    def show(self, state: AppState) -> None:
        """A stage that ended may have stored something."""
        ended = tuple(f"{s.name} {s.state}" for s in state.watched.stages if s.state != "running") if (
            state.watched) else ()
        if ended != self._ended and self._browser is not None and self._browser.complete:
            self.action_look_again()
        self._ended = ended
        self._draw_facts()

    def action_look_again(self) -> None:
        """Resolve the view anew."""
        asked, order = dict(self._asked), self._order
        count, seed = SAMPLE if self._drawn else 0, self._drawn
        self._list.look(lambda: browse(self.ui.workspace, asked["filter"], asked["search"], order, asked["selection"],
                                       count, seed))
        self._draw_facts()

    def on_trace_list_grew(self, event: TraceList.Grew) -> None:
        """More rows, or all of them."""
        if event.browser is self._browser:
            self._problem = ""
            if not self._ask_line.what:
                self._ask_line.accept()
            self._draw_facts()

    def on_trace_list_refused(self, event: TraceList.Refused) -> None:
        """The view cannot be had."""
        self._refused(event.error)

    def _refused(self, error: LocalDistillError) -> None:
        if isinstance(error, UsageError):
            self._ask_line.refuse(error)
            return
        self._problem = f"✗ {safe(error.message)}\n{safe(error.hint)}\n\nNothing is lost. ctrl+r looks again."
        self._draw_facts()

    # ---- what is asked

    @property
    def _ask_line(self) -> AskLine:
        return self.query_one(AskLine)

    def action_ask(self, what: str) -> None:
        """Open the line to type words of a kind into."""
        if what in self._asked:
            self._ask_line.ask(what, *LINES[what], self._asked[what])
        elif self._chosen_id():
            tags, note = self._said()
            self._ask_line.ask(what, *LINES[what], tags if what == "tags" else note)

    def on_ask_line_said(self, event: AskLine.Said) -> None:
        """Look with the new words, or keep what they say of the trace."""
        self._end_asking()
        if event.what in self._asked:
            self._asked[event.what] = event.words
            self.action_look_again()
        elif event.what == "tags":
            self._say(lambda trace_id: retag_trace(self.ui.workspace, trace_id, event.words.replace(",", " ").split()))
        else:
            self._say(lambda trace_id: note_trace(self.ui.workspace, trace_id, event.words))

    def _end_asking(self) -> None:
        self._ask_line.end()
        self._focus_view()

    # ---- what a person says

    def _say(self, change: Callable[[str], Judged]) -> None:
        """Change what is said of the open trace, else of that in the row."""
        if trace_id := self._chosen_id():
            self._judging.say(lambda: change(trace_id))

    def _said(self) -> tuple[str, str]:
        """Tags and note of the trace that is meant."""
        detail, row = self._detail, self._list.row
        if detail is not None:
            said = judgement_among(detail.facts)
            return " ".join(said.tags), said.note
        return (" ".join(row.tags), row.note) if row else ("", "")

    def _judged(self, trace_id: str) -> None:
        self._ask_line.accept()
        self._list.changed(trace_id)
        if self._detail is not None and trace_id == self._opened:
            self._opened = ""
            self._open(trace_id, lambda: trace_detail(self.ui.workspace, trace_id))

    def action_judge(self, passed: bool) -> None:
        """The trace is right, or wrong."""
        self._say(lambda trace_id: judge(self.ui.workspace, trace_id, passed))

    def action_favourite(self) -> None:
        """Turn round whether it is one."""
        self._say(lambda trace_id: favourite_trace(self.ui.workspace, trace_id, None))

    def action_undo(self) -> None:
        """Take back the last thing that was said."""
        self._judging.undo()

    # ---- what is done with them

    def action_export(self) -> None:
        """Ask for a file, and write what is listed to it."""
        from tui.flows.data import export_traces

        export_traces(self.ui, DataChoice(self._asked["selection"], self._asked["filter"], self._asked["search"]))

    def action_forget(self) -> None:
        """Forget the prompt of the open trace, else of that in the row."""
        if trace_id := self._chosen_id():
            forget_prompt(self.ui, trace_id, self.action_look_again)

    def action_prompts(self) -> None:
        """Walk through the prompts; the answers of the one that is taken are listed."""
        from tui.widgets.prompts_dialog import PromptsDialog

        self.ui.push_screen(PromptsDialog(lambda prompt_id: self._filter(f"prompt_id = '{prompt_id}'")))

    def action_rules(self) -> None:
        """Walk through the verdicts by rule; the traces of the line that is taken are listed."""
        from tui.widgets.verdicts_dialog import VerdictsDialog

        self.ui.push_screen(VerdictsDialog(self._filter))

    def _filter(self, condition: str) -> None:
        self._asked = {"filter": condition, "search": "", "selection": ""}
        self.action_look_again()

    @property
    def _detail(self) -> TraceDetail | None:
        """The open trace."""
        return self.query_one(TraceText).detail if self.has_class("open") else None

    def _chosen_id(self) -> str:
        """The open trace's id, else that of the row."""
        row = self._list.row
        return self._detail.trace.id if self._detail else row.id if row else ""

    def action_sample(self) -> None:
        """Another sample of what is listed."""
        self._drawn += 1
        self.action_look_again()

    def action_edit(self) -> None:
        """Write over the open trace, else that in the row."""
        from tui.widgets.edit_dialog import EditDialog

        def made(trace: Trace) -> None:
            self.notify(f"{line(trace.id, 13)} was made; d opens it from its parent", markup=False)
            if not self._drawn:
                self.action_look_again()
            if self._detail is not None:
                self._open(trace.id, lambda: trace_detail(self.ui.workspace, trace.id))

        def begin(detail: TraceDetail) -> None:
            def show() -> None:
                self.ui.push_screen(EditDialog(detail.trace, made))

            self.ui.guarded(show)

        if trace_id := self._chosen_id():
            self.ui.jobs.do(lambda: trace_detail(self.ui.workspace, trace_id), begin, group="edit")

    def action_sort(self) -> None:
        """The next order."""
        self._order = TRACE_ORDERS[(TRACE_ORDERS.index(self._order) + 1) % len(TRACE_ORDERS)]
        self.action_look_again()

    # ---- one trace

    def on_paged_table_row_selected(self, event: PagedTable.RowSelected) -> None:
        """Open the trace."""
        self.add_class("open")
        self._place()
        self._open_row(event.index)
        self._focus_view()

    def on_paged_table_moved(self, event: PagedTable.Moved) -> None:
        """Beside the table the trace follows the cursor."""
        if self.has_class("open"):
            self._open_row(event.index)
        self._draw_facts()

    def _open_row(self, index: int) -> None:
        browser = self._browser
        row = browser.row(index) if browser else None
        if browser is not None and row is not None:
            self._open(row.id, lambda: browser.detail(index))

    def _open(self, trace_id: str, fetch: Callable[[], TraceDetail]) -> None:
        if trace_id == self._opened and self.query_one(TraceText).detail is not None:
            return
        self._opened = trace_id
        self.ui.look_at(trace_id)
        text = self.query_one(TraceText)
        if text.detail is None:
            text.show(None)
        self.ui.jobs.do(fetch, self._opened_one, group="trace",
                        failed=lambda error: text.show(None, f"{safe(error.message)}\n{safe(error.hint)}"))

    def _opened_one(self, detail: TraceDetail) -> None:
        self.query_one(TraceText).show(detail)

    def action_step(self, by: int) -> None:
        """The next or previous trace, while one is open."""
        if self.has_class("open"):
            self._list.action_move(by)

    def action_kin(self, direction: int) -> None:
        """The trace that this one was made from, or the first that was made of it."""
        detail = self.query_one(TraceText).detail
        if detail is None or not self.has_class("open"):
            return
        related = detail.trace.parent_id if direction < 0 else next((made for made, _ in detail.made_of_it), None)
        if related:
            self._open(related, lambda: trace_detail(self.ui.workspace, related))

    def action_fold(self) -> None:
        """Fold or open the thinking."""
        self.query_one(TraceText).toggle_thinking()

    def action_whole(self) -> None:
        """Draw long texts to their end."""
        self.query_one(TraceText).toggle_whole()

    def action_copy_id(self) -> None:
        """The open trace's id, else that of the row."""
        if trace_id := self._chosen_id():
            self.app.copy_to_clipboard(safe(trace_id))
            self.notify(f"copied {line(trace_id)}", markup=False)

    def action_close(self) -> None:
        """The line to type into, else the open trace, else what narrows the view."""
        if self._ask_line.what:
            self._end_asking()
        elif self.has_class("open"):
            self.remove_class("open")
            self._opened = ""
            self._place()
            self._focus_view()
        elif self._drawn:
            self._drawn = 0
            self.action_look_again()
        else:
            for what in ("search", "selection", "filter"):
                if self._asked[what]:
                    self._asked[what] = ""
                    self.action_look_again()
                    return

    # ---- drawing

    def on_resize(self) -> None:
        """Side by side where there is room."""
        self._place()

    def _place(self) -> None:
        self.set_class(self.size.width >= WIDE, "wide")

    def _focus_view(self) -> None:
        narrow = self.has_class("open") and not self.has_class("wide")
        self.query_one("#one" if narrow else "#list").focus()

    def _draw_facts(self) -> None:
        browser = self._browser
        self.query_one("#lists").display = not self._problem
        self.query_one("#nothing").display = bool(self._problem)
        if self._problem:
            self.query_one("#facts", Static).update(shown("the traces cannot be read", "bold $text-error"))
            self.query_one("#nothing", Static).update(shown(self._problem))
            return
        if browser is None:
            self.query_one("#facts", Static).update(shown("looking at the traces ...", "$foreground-muted"))
            return
        narrowed = [f"{what}: {line(text, 60)}" for what, text in self._asked.items() if text]
        found = f"{browser.count:,} trace{'s' * (browser.count != 1)}"
        found += "" if browser.complete else " so far, looking on ..."
        narrowed += [f"sample {self._drawn}"] if self._drawn else []
        place = f"  row {self._list.cursor + 1:,}" if browser.count else ""
        parts = [shown(found, "bold"), *(shown(f"  {text}", "$text-accent") for text in narrowed),
                 shown(f"{place}  order: {self._order}", "$foreground-muted")]
        watched = self.ui.state.watched
        if watched is not None and watched.is_alive and watched.stage == "collect":
            parts.append(shown("  ctrl+r takes in what is collected", "$foreground-muted"))
        self.query_one("#facts", Static).update(joined(*parts))
        nothing = browser.complete and not browser.count
        self.query_one("#lists").display = not nothing
        self.query_one("#nothing").display = nothing
        if nothing:
            text = ("Nothing meets this. escape takes the search or filter away." if narrowed else
                    "No traces yet. They come from a teacher (Home, p: the pantry world) or from a file:\n"
                    "localdistill import FILE")
            self.query_one("#nothing", Static).update(shown(text, "$foreground-muted"))
