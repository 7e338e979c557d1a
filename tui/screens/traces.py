"""Traces: a table over all that is stored, filtered, searched and ordered, and one trace in full. The table holds row
numbers only; pages come from the store in a thread while one scrolls."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from localdistill import (
    TRACE_ORDERS,
    VERDICTS,
    Browser,
    DataChoice,
    Fact,
    LocalDistillError,
    TraceDetail,
    UsageError,
    browse,
    judge,
    nearest,
    trace_detail,
)
from tui.commands import Command
from tui.flows.forgetting import forget_prompt
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.ui import Wanted
from tui.widgets.paged_table import PagedTable
from tui.widgets.trace_rows import COLUMNS, BrowserRows
from tui.widgets.trace_text import TraceText

WIDE = 120


class TracesPage(Page):
    """All traces, and one of them closely."""

    TITLE = "Traces"
    HELP = ("Every stored trace. A filter is an SQL condition on one trace, over the columns of trace_view: score, "
            "status, model, completion_tokens, cost_usd, rewrite, source, labels, question, reasoning, answer, "
            "extracted and more, and what graders and labels say, by their names. It is worked out in a process of "
            "its own. A search finds text in question, thinking and answer and shows the first hits first.")
    ACTIONS = (
        Command("traces.search", "search: text in traces", "traces", "screen.ask('search')", "slash",
                "In question, thinking and answer, any case."),
        Command("traces.filter", "filter: traces by a condition", "traces", "screen.ask('filter')", "f",
                "For example: score = 0 AND completion_tokens > 500"),
        Command("traces.selection", "filter: traces of a selection", "traces", "screen.ask('selection')", "l",
                "By the name of a saved selection.", in_footer=False),
        Command("traces.sort", "sort: traces", "traces", "screen.sort", "s",
                "In turn: stored, newest, lowest score, most tokens, highest cost."),
        Command("traces.judge", "judge: trace is right or wrong", "judge", "screen.ask('judgement')", "j",
                "Counts above every grader. For example: wrong the unit is missing", in_footer=False),
        Command("traces.export", "export: these traces to a file", "data export", "screen.export", "x",
                "For other tools: what is listed here, as a file.", in_footer=False),
        Command("traces.forget", "forget: prompt of the trace", "forget", "screen.forget", "",
                "With its answers and every copy here, after a yes.", in_footer=False),
        Command("traces.prompts", "list: stored prompts", "prompts", "screen.prompts", "p",
                "With an answer or without; enter lists the answers of one.", in_footer=False),
        Command("traces.copy", "copy: id of the trace", "show", "screen.copy_id", "y", "To the clipboard."),
        Command("traces.fold", "fold: thinking", "show", "screen.fold", "t", "Opens or folds the thinking."),
        Command("traces.whole", "show: all of a long text", "show", "screen.whole", "m", in_footer=False),
        Command("traces.parent", "open: parent of the trace", "show", "screen.kin(-1)", "u", "What it was made from.",
                in_footer=False),
        Command("traces.child", "open: rewrite of the trace", "show", "screen.kin(1)", "d", "What was made of it.",
                in_footer=False),
        Command("traces.next", "open: next trace", "show", "screen.step(1)", "right", in_footer=False),
        Command("traces.previous", "open: previous trace", "show", "screen.step(-1)", "left", in_footer=False),
        Command("traces.refresh", "look again: traces", "traces", "screen.look_again", "ctrl+r",
                "Takes in what was stored meanwhile.", in_footer=False),
        Command("traces.close", "close: trace or filter", "traces", "screen.close", "escape",
                "The open trace, else the search, else the filter.", in_footer=False),
    )
    CSS_PATH = "traces.tcss"

    class Grew(Message):
        """More traces were found."""

        def __init__(self, browser: Browser) -> None:
            super().__init__()
            self.browser = browser

    def __init__(self) -> None:
        super().__init__()
        self._asked = {"filter": "", "search": "", "selection": ""}
        self._order = TRACE_ORDERS[0]
        self._browser: Browser | None = None
        self._span = (0, 0)
        self._loading = False
        self._asking = ""
        self._opened = ""
        self._problem = ""
        self._ended: tuple[str, ...] = ()

    def body(self) -> Iterable[Widget]:
        """One line of facts, the line to type into, the table, the trace."""
        yield Static(id="facts")
        with Horizontal(id="asking"):
            yield Static(id="ask-label")
            yield Input(id="ask", disabled=True)
        yield Static(id="ask-problem")
        with Horizontal(id="lists"):
            yield PagedTable(COLUMNS, id="list")
            yield TraceText(id="one")
        yield Static(id="nothing", classes="empty")

    # ---- the view

    def on_mount(self) -> None:
        """Look once the frame stands."""
        self.call_after_refresh(self.action_look_again)
        self.query_one("#list").focus()

    def came(self, what: Wanted) -> None:
        """To see the traces of a selection."""
        if selection := what.get("selection"):
            self._asked = {"filter": "", "search": "", "selection": selection}
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
        if self._browser is not None and not self._browser.complete:
            self._browser.stop()
        asked = dict(self._asked)

        def begin() -> Browser:
            return browse(self.ui.workspace, asked["filter"], asked["search"], self._order, asked["selection"])

        self.ui.jobs.do(begin, self._begun, group="traces-open", failed=self._refused)
        self._draw_facts()

    def _begun(self, browser: Browser) -> None:
        before, self._browser, self._problem = self._browser, browser, ""
        kept = self.query_one(PagedTable).cursor if before and before.order == browser.order else 0
        self._loading = False
        for missing in browser.missing:
            self.ui.notify(f"{line(missing.text, 200)}\n{safe(missing.hint)}", severity="warning", markup=False)
        self.query_one("#ask-problem").display = False
        self.query_one(PagedTable).show(BrowserRows(browser, self.fetch), 0)

        def resolved(_: None) -> None:
            self.on_traces_page_grew(self.Grew(browser))
            if browser is self._browser and kept:
                self.query_one(PagedTable).cursor = kept

        self.ui.jobs.do(lambda: browser.resolve(lambda: self._told(browser)), resolved, group="traces",
                        failed=self._refused)

    def _told(self, browser: Browser) -> None:
        self.post_message(self.Grew(browser))

    def on_traces_page_grew(self, event: Grew) -> None:
        """More rows, or all of them."""
        if event.browser is self._browser:
            self.query_one(PagedTable).arrived()
            self._draw_facts()

    def _refused(self, error: LocalDistillError) -> None:
        if not isinstance(error, UsageError):
            self._problem = f"✗ {safe(error.message)}\n{safe(error.hint)}\n\nNothing is lost. ctrl+r looks again."
            self._draw_facts()
            return
        problem = self.query_one("#ask-problem", Static)
        problem.update(joined(shown(error.message, longest=600),
                              shown(f"\n{safe(error.hint, 300)}", "$foreground-muted")))
        problem.display = True

    def fetch(self, first: int, last: int) -> None:
        """These rows are in sight: fetch a page that is missing, then the next, and the neighbours ahead."""
        self._span = (first, last)
        browser = self._browser
        if browser is None or self._loading:
            return
        page = browser.wanted(first, last)
        if page is None:
            return
        self._loading = True

        def loaded(_: None) -> None:
            if browser is self._browser:
                self._loading = False
                self.query_one(PagedTable).arrived()

        def failed(error: LocalDistillError) -> None:
            if browser is self._browser:
                self._loading = False
                self.ui.show_error(error)

        self.ui.jobs.do(lambda: browser.load(page), loaded, failed=failed)

    # ---- what is asked

    def action_ask(self, what: str) -> None:
        """Open the line to type a filter, a search or the name of a selection into."""
        self._asking = what
        labels = {"filter": "filter (SQL):", "search": "search:", "selection": "selection:",
                  "judgement": f"judge ({', '.join(VERDICTS)}):"}
        examples = {"filter": "score = 0 AND completion_tokens > 500", "search": "any text",
                    "selection": "name of a saved selection", "judgement": "wrong the unit is missing"}
        self.query_one("#asking").display = True
        self.query_one("#ask-label", Static).update(shown(labels[what]))
        ask = self.query_one("#ask", Input)
        ask.disabled = False
        ask.placeholder = examples[what]
        ask.value = self._asked.get(what, "")
        ask.cursor_position = len(ask.value)
        ask.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look with the new words, or judge."""
        if self._asking == "judgement":
            self._judge(event.value)
            return
        self._asked[self._asking] = event.value.strip()
        self._end_asking()
        self.action_look_again()

    def _judge(self, said: str) -> None:
        """Keep a judgement of the open trace, else of that in the row: a verdict, then why."""
        verdict, _, note = said.strip().partition(" ")
        trace_id = self._chosen_id()
        if not said.strip() or not trace_id:
            self._end_asking()
            return
        if verdict not in VERDICTS:
            self._refused(UsageError(f"a judgement is not '{verdict}'{nearest(verdict, VERDICTS)}",
                                     f"say {', '.join(VERDICTS)}, then why"))
            return

        def judged(fact: Fact) -> None:
            self._end_asking()
            self.notify(f"{line(fact.subject_id)}: {line(verdict)}", markup=False)
            self.action_look_again()
            if self.has_class("open"):
                self._opened = ""
                self._open(trace_id, lambda: trace_detail(self.ui.workspace, trace_id))

        self.ui.jobs.do(lambda: judge(self.ui.workspace, trace_id, VERDICTS[verdict], note), judged, group="judge",
                        failed=self._refused)

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

        def chosen(prompt_id: str) -> None:
            self._asked = {"filter": f"prompt_id = '{prompt_id}'", "search": "", "selection": ""}
            self.action_look_again()

        self.ui.push_screen(PromptsDialog(chosen))

    def _chosen_id(self) -> str:
        """The open trace's id, else that of the row."""
        detail = self.query_one(TraceText).detail if self.has_class("open") else None
        table = self.query_one(PagedTable)
        row = self._browser.row(table.cursor) if self._browser and table.count else None
        return detail.trace.id if detail else row.id if row else ""

    def _end_asking(self) -> None:
        self._asking = ""
        self.query_one("#asking").display = False
        self.query_one("#ask", Input).disabled = True  # else a screen that comes back may give it the focus, unseen
        self.query_one("#ask-problem").display = False
        self._focus_view()

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
            self.query_one(PagedTable).action_move(by)

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
        if self._asking:
            self._end_asking()
        elif self.has_class("open"):
            self.remove_class("open")
            self._opened = ""
            self._place()
            self._focus_view()
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
        place = f"  row {self.query_one(PagedTable).cursor + 1:,}" if browser.count else ""
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
