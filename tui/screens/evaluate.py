"""Evaluate: the score cards of a run - models with their intervals drawn, verdicts in words, and the items that turned
with both outputs. Judges nothing itself: every figure and every verdict is the card's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import (
    Comparison,
    FlippedItem,
    LocalDistillError,
    ScoreCard,
    Scores,
    flipped,
    kept_notes,
    result_to_markdown,
    score_card,
)
from tui.commands import Command
from tui.run_page import RunPage, stage_commands
from tui.state import AppState, RunView
from tui.text import fitted, joined, line, safe, shown
from tui.widgets.copy_line import copyable
from tui.widgets.dialogs import ReportDialog
from tui.widgets.interval_bars import difference_bar, scale_of, score_bar
from tui.widgets.progress import WorkLine
from tui.widgets.result_box import ResultBox

STAGE = "evaluate"
_MUTED = "$foreground-muted"
_VERDICTS = {"better": ("▲ better", "$text-success"), "worse": ("▼ worse", "$text-error"),
             "cannot tell": ("= cannot tell", "")}
MOST_CATEGORIES = 8
MOST_METRICS = 4
_SIDES = {"won": ("+ won ", "$text-success"), "lost": ("- lost", "$text-error")}


class EvaluatePage(RunPage):
    """The score cards of one run."""

    TITLE = "Evaluate"
    HELP = ("All models answered the same items. A bar ends in the 95 % interval of its score; a verdict is better, "
            "worse, or cannot tell, and says which difference could have been seen. Choose a comparison to see the "
            "items that turned, with both outputs.")
    STAGE = STAGE
    ACTIONS = (
        *stage_commands("evaluate", STAGE),
        Command("evaluate.card", "show: next score card", "scores", "screen.next_card", "c",
                "Tasks, guard tasks, and the forms of the exported model.", word="card"),
        Command("evaluate.result", "copy: the result as Markdown", "result", "screen.copy_result", "y",
                "What won, what it cost, how sure that is, and the next step: to the clipboard.", in_footer=False),
        Command("evaluate.causes", "count: what went wrong, for each model", "items", "screen.count_causes", "w",
                "Right, wrong, cut at the limit, in circles, without an answer, declined.", in_footer=False),
        Command("evaluate.near", "show: training questions like the chosen item", "items", "screen.show_near", "n",
                "By runs of three words, numbers left out: what a model got right it may only remember.",
                in_footer=False),
        Command("evaluate.flips", "show: items won and lost", "scores", "screen.toggle_flips", "f",
                "What turned between the two models of the chosen comparison, with both outputs.", word="won/lost"),
    )
    CSS_PATH = "evaluate.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._asked = ""
        self._scores: Scores | None = None
        self._card = 0
        self._items: list[FlippedItem] = []
        self._width = 0

    def body(self) -> Iterable[Widget]:
        """Cards, comparisons, items that turned."""
        yield WorkLine(id="work")
        with Horizontal(id="split"):
            with Vertical(id="card"):
                yield ResultBox(id="result")
                yield Static(id="cards")
                yield Static(id="table")
                explained = shown("   points (95 % interval), and what could be seen", _MUTED)
                yield Static(joined(shown("verdicts", "bold"), explained), id="verdicts-title")
                yield OptionList(id="verdicts", markup=False)
                yield Static(id="scope")
            with Vertical(id="turned"):
                yield Static(id="turned-title")
                yield OptionList(id="items", markup=False)
                with VerticalScroll(id="outputs", classes="pane"):
                    yield Static(id="both")
        yield Static(id="none", classes="empty")

    def on_screen_resume(self) -> None:
        """Look again: the artifact may have come back, or gone."""
        self._asked = ""
        super().on_screen_resume()

    def show(self, state: AppState) -> None:
        """Look for score cards when the followed run got that far."""
        view = state.watched
        work = self.query_one(WorkLine)
        work.display = view is not None and view.is_alive and view.stage == STAGE
        if view is None:
            self._say_none("No score card yet.\n\ns starts a recipe up to its evaluation.")
            return
        if work.display:
            work.show(view)
        done = [f"{stage.name} {stage.state}" for stage in view.stages if stage.name in (STAGE, "export")]
        answered = sum(made.kind == "answers" for made in view.artifacts)
        asked = f"{view.run_id} {view.is_alive} {done} {answered}"
        if asked != self._asked:
            self._asked = asked
            run_id = view.run_id
            if self._scores is None or self._scores.run_id != run_id:
                self._say_none("reading the score card ...")
            self.ui.jobs.do(lambda: score_card(self.ui.workspace, run_id), lambda found: self._seen(found),
                            group="scores", failed=lambda error: self._missing(view, error))

    def _say_none(self, text: str) -> None:
        none = self.query_one("#none", Static)
        none.update(shown(text, _MUTED))
        none.display, self.query_one("#split").display = True, False

    def _missing(self, view: RunView, error: LocalDistillError) -> None:
        self._scores, self._items = None, []
        for name in ("#verdicts", "#items"):
            self.query_one(name, OptionList).clear_options()
        if view.stages and STAGE not in {stage.name for stage in view.stages}:
            self._say_none(f"The run {view.run_id} evaluates nothing:\nits recipe has no [evaluate], or stops before.")
        elif view.is_alive:
            done = [f"✓ {fitted(made.label, 60)}" for made in view.artifacts if made.kind == "answers"]
            waits = f"The score card of {view.run_id} comes when every model has answered.\n"
            self._say_none("\n".join([waits, *done]))
        else:
            self._say_none(f"{error.message}\n{error.hint}")

    def _seen(self, scores: Scores) -> None:
        if self._scores is None or self._scores.run_id != scores.run_id:
            self._card = 0
        self._scores = scores
        self.query_one("#none").display, self.query_one("#split").display = False, True
        self.call_after_refresh(self._draw_card)

    @property
    def cards(self) -> tuple[ScoreCard, ...]:
        """All cards of the run, the contest first."""
        return (*self._scores.cards, *self._scores.forms) if self._scores else ()

    def on_resize(self) -> None:
        """Bars are as wide as there is room."""
        if self.cards and self.size.width != self._width:
            self._width = self.size.width
            self.call_after_refresh(self._draw_card)

    def _draw_card(self) -> None:
        if not self.cards:
            return
        card = self.cards[self._card % len(self.cards)]
        self.query_one(ResultBox).show(self._scores.result if self._scores and card is self.cards[0] else None)
        width = (self.query_one("#card").content_region.width or 78) - 1
        self.put("#cards", _tabs(self.cards, card))
        self.put("#table", _rows(card, width))
        verdicts = self.query_one("#verdicts", OptionList)
        chosen = verdicts.highlighted or 0
        verdicts.clear_options()
        verdicts.add_options([Option(_verdict(card, entry, width)) for entry in card.comparisons])
        self.query_one("#verdicts-title").display = verdicts.display = bool(card.comparisons)
        if card.comparisons:
            verdicts.highlighted = min(chosen, len(card.comparisons) - 1)
        else:
            self._draw_items(None)
        missing = self._scores.not_measured if self._scores and card.forms_of else ()
        problems = self._scores.problems if self._scores else ()
        self.put("#scope", joined(*(shown(f"not measured: {text}\n", "$warning") for text in missing),
                                  *(shown(f"! {text}\n", "$warning") for text in problems),
                                  shown(card.scope, _MUTED), *_metrics(card),
                                  *(_categories(card) if self.size.height >= 40 else ())))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """A comparison: its items. An item: both outputs. What was chosen may have gone meanwhile."""
        if not self.cards:
            return
        if event.option_list.id == "verdicts":
            self._draw_items(self.cards[self._card % len(self.cards)].comparisons[event.option_index])
        elif event.option_index < len(self._items):
            self._draw_outputs(self._items[event.option_index])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter on a comparison goes to its items."""
        if event.option_list.id == "verdicts":
            self.action_toggle_flips(True)

    def _draw_items(self, entry: Comparison | None) -> None:
        items = self.query_one("#items", OptionList)
        items.clear_options()
        self._items = list(flipped(self._scores, entry)) if entry and self._scores else []
        title = f"{entry.first} against {entry.second}: won {entry.won}, lost {entry.lost}" if entry else ""
        shown_only = entry is not None and len(self._items) < entry.won + entry.lost
        more = f" (the first {len(self._items)} are kept)" if shown_only else ""
        self.put("#turned-title", shown(title + more, "bold"))
        room = (self.query_one("#turned").content_region.width or 78) - 10
        items.add_options([Option(_item(item, room)) for item in self._items])
        if self._items:
            items.highlighted = 0
        else:
            self.put("#both", shown("No item turned between these two.", _MUTED))
        self._entry = entry

    def _draw_outputs(self, item: FlippedItem) -> None:
        assert self._entry is not None
        parts = [shown(f"{item.question or item.prompt_id}\n", "bold")]
        if item.reference:
            parts.append(shown(f"reference: {item.reference}\n", _MUTED))
        card = self.cards[self._card % len(self.cards)]
        for name, output, taken, right in (
            (self._entry.first, item.flip.first_output, item.flip.first_extracted, item.side == "won"),
            (self._entry.second, item.flip.second_output, item.flip.second_extracted, item.side == "lost"),
        ):
            mark, style = ("✓ right", "$text-success") if right else ("✗ wrong", "$text-error")
            seeds = _seeds_of(card, name)
            most = f" in {'half or more' if right else 'most'} of {len(seeds)} seeds" if len(seeds) > 1 else ""
            told = f"  seed {seeds[0]} wrote:" if most else ""
            told += f"  taken for the answer: {line(taken, 60)}" if taken else ""
            parts.append(joined(shown(f"\n{line(name)}  ", "bold"), shown(mark + most, style),
                                shown(f"{told}\n", _MUTED)))
            parts.append(shown(f"{output.strip()}\n"))
        self.put("#both", joined(*parts))
        self.query_one("#outputs", VerticalScroll).scroll_home(animate=False)

    def action_next_card(self) -> None:
        """The next card of this run."""
        if self.cards:
            self._card = (self._card + 1) % len(self.cards)
            self.query_one("#verdicts", OptionList).highlighted = 0
            self._draw_card()

    def action_copy_result(self) -> None:
        """The result as Markdown, to the clipboard."""
        result = self._scores.result if self._scores else None
        if result is None:
            self.notify("there is no result yet", markup=False)
            return
        self.app.copy_to_clipboard(copyable(safe(result_to_markdown(result))))
        self.notify("the result is in the clipboard, as Markdown", markup=False)

    def action_count_causes(self) -> None:
        """A window with the causes, counted."""
        if (run := self._scores.run_id if self._scores else "") == "":
            self.notify("there is no evaluation to look at yet", markup=False)
            return

        def count() -> list[tuple[str, str]]:
            from localdistill import causes_of, run_items

            return [(f"{line(task)}, {line(model)}", ", ".join(f"{count:,} {cause}" for cause, count in
                                                               found.most_common()))
                    for (task, model), found in causes_of(run_items(self.ui.workspace, run)).items()]

        self._report("What went wrong", "reading the answers ...", count)

    def action_show_near(self) -> None:
        """A window with the training questions that are most like the chosen item."""
        place, scores = self.query_one("#items", OptionList).highlighted, self._scores
        if place is None or place >= len(self._items) or scores is None:
            self.notify("choose an item first: f shows those that turned", markup=False)
            return
        question = self._items[place].question

        def look() -> list[tuple[str, str]]:
            from localdistill import nearest_rows

            found = nearest_rows(self.ui.workspace, scores.run_id, question)
            return [("item", question), *((f"{100 * row.shared:.0f} % {row.trace_id[3:13]}", row.question)
                                          for row in found)] if found else [("item", question), ("", "no question that "
                                                                            "was trained shares three words in a row")]

        self._report("Trained questions like this item", "comparing ...", look)

    def _report(self, title: str, waiting: str, work: Callable[[], list[tuple[str, str]]]) -> None:
        report = ReportDialog(title, waiting=waiting)
        self.ui.push_screen(report)
        self.ui.jobs.do(work, report.fill, group="items", failed=report.fail)

    def action_toggle_flips(self, on: bool | None = None) -> None:
        """Items that turned, in place of the card where both have no room."""
        self.set_class(not self.has_class("-flips") if on is None else on, "-flips")
        self.query_one("#items" if self.has_class("-flips") else "#verdicts").focus()
        self.call_after_refresh(self._draw_card)


def _tabs(cards: Iterable[ScoreCard], here: ScoreCard) -> Content:
    """The names of all cards, the present one marked, and what it is."""
    parts: list[Content] = []
    for card in cards:
        kind = " forms" if card.forms_of else " (guard)" if card.is_guard else ""
        parts.append(shown(f" {line(card.task)}{kind} ", "bold reverse" if card is here else _MUTED))
    seeds = f"{here.seeds} seed{'s' if here.seeds != 1 else ''} per arm"
    what = [f"{here.items:,} items, graded by {line(here.grader)}",
            f"forms of {line(here.forms_of)}" if here.forms_of else seeds]
    what += ["guard task: outside what was trained"] if here.is_guard else []
    return joined(*parts, shown(" c: next\n", _MUTED), shown(", ".join(what) + "\n", _MUTED))


def _rows(card: ScoreCard, width: int) -> Content:
    """One line per model: name, score, interval in figures and drawn, shares of replies that finished and were cut."""
    if not card.rows:
        return shown("no model was measured", _MUTED)
    names = min(24, max(len(row.name) + 2 * bool(row.stopped_early) for row in card.rows))
    tokens = width >= names + 62
    room = max(0, width - names - (51 if tokens else 44))
    most = scale_of([row.interval[1] for row in card.rows])
    head = f"{'model':<{names}} {'score':>6} {'95 % interval':>16}  {'':<{room}} finished at limit"
    parts = [shown(head + (" tokens\n" if tokens else "\n"), _MUTED)]
    for row in card.rows:
        name = fitted(row.name, 22) + (" *" if row.stopped_early else "")
        low, high = row.interval
        style = _MUTED if row.name == card.base else "$primary"
        parts += [
            shown(f"{name:<{names}} "), shown(f"{100 * row.score:>5.1f}%", "bold"),
            shown(f" {100 * low:>6.1f} -{100 * high:>5.1f} % "),
            shown(f" {score_bar(row.score, low, high, most, room):<{room}}", style),
            shown(f" {100 * row.finished_share:>7.1f}%"),
            shown(f" {100 * row.limit_share:>7.1f}%", "$warning" if row.limit_share > 0.05 else ""),
            shown(f" {row.mean_answer_tokens:>6.0f}\n" if tokens else "\n"),
        ]
    if room >= 8:
        parts.append(shown(f"{'':<{names + 25}}0{f'{100 * most:.0f} %':>{room - 1}}\n", _MUTED))
    parts += [shown(f"* {line(row.name)} was stopped early ({line(row.stopped_early)}): shown, not ranked\n",
                    "$warning") for row in card.rows if row.stopped_early]
    parts += [shown(f"{line(row.name)}: {row.undecided:,} of its {row.items * len(row.seeds):,} items could not be "
                    "judged, and count as wrong\n", "$warning") for row in card.rows if row.undecided]
    parts += [shown(f"{line(text)}\n", _MUTED) for text in kept_notes(card.rows)]
    parts += [shown(f"{line(text)}\n", "$warning") for text in card.leaks]
    return joined(*parts)


def _metrics(card: ScoreCard) -> list[Content]:
    """What the task measured beside the score: means over the items, and what each means."""
    names = list(card.metrics)[:MOST_METRICS]
    if not names:
        return []
    width = min(24, max(len(row.name) for row in card.rows))
    head = "".join(f"{fitted(name, 14):>15}" for name in names)
    parts = [shown("\n\nalso measured, means over the items\n", "bold"), shown(f"{'':<{width}} {head}\n", _MUTED)]
    for row in card.rows:
        means = {found.name: f"{found.mean:.4g}" for found in row.metrics}
        cells = "".join(f"{means.get(name, '-'):>15}" for name in names)
        parts.append(shown(f"{fitted(row.name, width):<{width}} {cells}\n"))
    return parts + [shown(f"{line(name)}: {line(card.metrics[name], 200)}\n", _MUTED)
                    for name in names if card.metrics[name]]


def _categories(card: ScoreCard) -> list[Content]:
    """Scores by the task's own categories of items, for example the number of steps."""
    names = list(dict.fromkeys(found.category for row in card.rows for found in row.categories))[:MOST_CATEGORIES]
    if not names:
        return []
    width = min(24, max(len(row.name) for row in card.rows))
    head = "".join(f"{fitted(name or '-', 6):>7}" for name in names)
    parts = [shown("\n\nscore by category\n", "bold"), shown(f"{'':<{width}} {head}\n", _MUTED)]
    for row in card.rows:
        scores = {found.category: f"{100 * found.score:.1f}%" for found in row.categories}
        cells = "".join(f"{scores.get(name, '-'):>7}" for name in names)
        parts.append(shown(f"{fitted(row.name, width):<{width}} {cells}\n"))
    return parts


def _verdict(card: ScoreCard, entry: Comparison, width: int) -> Content:
    """One comparison in two lines: the verdict in words, and the difference with its interval drawn."""
    low, high = entry.interval
    least = min([0.0, *(e.interval[0] for e in card.comparisons)])
    most = max([0.0, *(e.interval[1] for e in card.comparisons)])
    mark, style = _VERDICTS[entry.verdict]
    same = f", same text on {entry.same_text}" if card.forms_of and entry.same_text is not None else ""
    points = f"{100 * entry.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return joined(
        shown(f"{mark:<14}", f"bold {style}".strip()),
        shown(f"{fitted(entry.first, 22)} against {fitted(entry.second, 22)}"),
        shown(f"   won {entry.won}, lost {entry.lost}{same}\n", _MUTED),
        shown(f"{'':<14}{points:<24} "),
        shown(f"{difference_bar(entry.difference, low, high, least, most, min(40, width - 58))} ", style),
        shown(f"sees {100 * entry.detectable:.1f} or more", _MUTED),
    )


def _seeds_of(card: ScoreCard, name: str) -> tuple[int, ...]:
    """The seeds behind a line of the card."""
    return next((row.seeds for row in card.rows if row.name == name), ())


def _item(item: FlippedItem, room: int) -> Content:
    """One item in one row."""
    mark, style = _SIDES[item.side]
    return joined(shown(f"{mark} ", style), shown(fitted(item.question or item.prompt_id, room)))
