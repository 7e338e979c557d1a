"""Collect: what the teachers answer while they answer it - for which set, how far, how fast, for how much, what went
wrong - and the newest reply with its thinking and its answer apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from localdistill import RunFolder
from tui.commands import Command
from tui.run_page import RunPage, cap_command, cap_of, spent_usd, stage_commands
from tui.state import AppState, RunView
from tui.text import fitted, joined, line, shown
from tui.widgets.log import SaidLog
from tui.widgets.progress import TRACK, ShareBar, WorkLine, bar, duration

STAGE = "collect"
_MUTED = "$foreground-muted"
_WORRYING = {"error", "truncated", "looping", "empty", "refusal", "filtered"}
SHOWN_LINES = 5


class CollectPage(RunPage):
    """The asking of one run."""

    TITLE = "Collect"
    HELP = ("What the teachers answer: every reply is on disk before anything else happens to it, and only what is not "
            "stored is asked. The cap on money is never passed; a run that reaches it pauses and can be resumed with a "
            "higher one.")
    STAGE = STAGE
    ACTIONS = (
        *stage_commands("collect", STAGE), cap_command("collect"),
        Command("collect.more", "make: more prompts from little", "prompts make", "screen.more_prompts", "",
                "Of a few questions or a folder of texts, by an engine; each is checked."),
        Command("collect.augment", "augment: prompts of the run's recipe", "augment", "screen.augment", "",
                "Starts a run of the same recipe that makes more prompts and asks for no answers."),
    )
    CSS_PATH = "collect.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._cap: tuple[str, float | None] = ("", None)

    def body(self) -> Iterable[Widget]:
        """Figures on the left, the newest reply on the right, what was said below."""
        with Vertical(id="live"):
            yield WorkLine(id="work")
            yield ShareBar(id="bar")
            with Horizontal(id="split"):
                with VerticalScroll(id="figures"):
                    yield Static(id="facts")
                with Vertical(id="newest"):
                    yield Static(id="who")
                    with VerticalScroll(id="thinking", classes="pane"):
                        yield Static(id="thinking-text")
                    with VerticalScroll(id="answer", classes="pane"):
                        yield Static(id="answer-text")
                    yield SaidLog(id="said-log")
        yield Static(shown("Nothing was collected here yet.\n\ns starts a recipe; or go Home (1) and press p:\nthe "
                           "pantry world asks a tiny teacher that ships with localdistill.", _MUTED),
                     classes="empty", id="none")

    def action_more_prompts(self) -> None:
        """Ask what there is, and start making."""
        from tui.flows.prompts import more_prompts

        more_prompts(self.ui)

    def action_augment(self) -> None:
        """The recipe of the run once more, up to its made prompts."""
        self.start_again("augment")

    def on_mount(self) -> None:
        """Name the panes."""
        self.query_one("#thinking").border_title = "thinking"
        self.query_one("#answer").border_title = "answer"
        for pane in ("#thinking", "#answer"):
            self.query_one(pane, VerticalScroll).anchor()

    def show(self, state: AppState) -> None:
        """Redraw for the followed run."""
        view = state.watched
        self.query_one("#none").display = view is None
        self.query_one("#live").display = view is not None
        if view is None:
            return
        self._look_up_cap(view)
        collects = view.stage == STAGE and view.is_alive and view.total > 0
        self.query_one(WorkLine).display, self.query_one(ShareBar).display = not collects, collects
        if collects:
            self.query_one(ShareBar).show(view.done / view.total)
        else:
            self.query_one(WorkLine).show(view)
        self.put("#facts", _figures(view, self._cap[1]))
        self._draw_newest(view)

    def _look_up_cap(self, view: RunView) -> None:
        known = f"{view.run_id} {view.state}"
        if self._cap[0] != known:
            self._cap = (known, self._cap[1] if self._cap[0].startswith(f"{view.run_id} ") else None)
            self.ui.jobs.do(lambda: cap_of(RunFolder(self.ui.workspace.runs / view.run_id)),
                            lambda cap: self._cap_seen(known, cap), group="collect-cap")

    def _cap_seen(self, known: str, cap: float | None) -> None:
        if self._cap[0] == known and cap != self._cap[1]:
            self._cap = (known, cap)
            self.show(self.ui.state)

    def _draw_newest(self, view: RunView) -> None:
        """The newest reply while there is one; what the stage said otherwise."""
        writes = bool(view.tail or view.tail_answer)
        self.query_one("#thinking").display = bool(view.tail)
        self.query_one("#answer").display = bool(view.tail_answer)
        log = self.query_one(SaidLog)
        log.display = not writes
        who = f"newest reply, of {line(view.tail_of)}" if view.tail_of else "newest reply"
        self.put("#who", shown(who if writes else _why_no_reply(view), _MUTED))
        if not writes:
            log.show(view.said_in(STAGE))
        for pane, text in (("thinking", view.tail), ("answer", view.tail_answer)):
            self.put(f"#{pane}-text", shown(text))


def _why_no_reply(view: RunView) -> str:
    stage = next((s for s in view.stages if s.name == STAGE), None)
    if stage is None and view.stages:
        return "this run collects nothing"
    if stage is None or stage.state in ("waiting", "running"):
        return "the newest reply appears here while a teacher answers" if view.is_alive else "no reply came"
    what = {"reused": "every answer was stored before: nothing was asked", "failed": "collecting stopped"}
    return what.get(stage.state, f"collected in {duration(stage.elapsed_s)}") + "; what it said:"


def _figures(view: RunView, cap: float | None) -> Content:
    """All figures of the stage, newest known."""
    collects = view.stage == STAGE and view.is_alive
    counts = view.table("replies")
    replies: Mapping[str, int] = view.tables.get("replies") or (counts.counts if counts else {})
    rows = [*_pace(view, collects, replies), *_money(view, cap)]
    parts = [joined(shown(f"{label:<9}", _MUTED), value, shown("\n")) for label, value in rows]
    parts += _table("teachers", view.tables.get("teachers", {}))
    sets = view.table("sets")
    parts += _table("sets", view.tables.get("sets") or (sets.counts if sets else {}))
    parts += _table("replies", replies)
    parts += _table("errors", view.tables.get("errors", {}), worrying=True)
    if (tries := view.table("tries until verified")) is not None:
        parts += _table("tries until verified", tries.counts)
    if (imported := view.table("imported")) is not None:
        parts += _table("imported", imported.counts)
    return joined(*parts)


def _pace(view: RunView, collects: bool, replies: Mapping[str, int]) -> list[tuple[str, Content]]:
    if not collects:
        speed = view.latest("tokens_per_s", STAGE)
        known = f"{view.done:,.0f} of {view.total:,.0f}" if view.stage == STAGE and view.total else ""
        came = f"{sum(replies.values()) - replies.get('error', 0):,}" if replies else ""
        rows = [("answers", shown(known or came))] if known or came else []
        return rows + ([("speed", shown(f"{speed:,.0f} tokens/s"))] if speed else [])
    left = f", {duration(view.remaining_s)} left" if view.remaining_s is not None else ""
    rows = [("answers", shown(f"{view.done:,.0f} of {view.total:,.0f}" if view.total else "not begun")),
            ("pace", shown(f"{view.rate:,.1f}/s{left}" if view.rate else "measuring ..."))]
    if tokens := view.counters.get("tokens"):
        speed_now = f", {view.tokens_per_s:,.0f}/s" if view.tokens_per_s else ""
        rows.append(("tokens", shown(f"{tokens:,.0f}{speed_now}")))
    return rows


def _money(view: RunView, cap: float | None) -> list[tuple[str, Content]]:
    spent = spent_usd(view) or 0.0
    if cap is None:
        return [("money", shown(f"${spent:,.4f}, no cap" if spent else "nothing spent, no cap"))]
    share = spent / cap if cap else 1.0
    style = "$warning" if share >= 0.8 else ""
    text = f"${spent:,.4f} of ${cap:,.2f} "
    reached = "  cap reached: m raises it" if view.state == "paused" else ""
    return [("money", joined(shown(text, style), shown(bar(share, 8, TRACK), "$primary on $panel"),
                             shown(reached, "bold $warning")))]


def _table(title: str, counts: Mapping[str, int], worrying: bool = False) -> list[Content]:
    """A title and the counts below it, with bars; nothing when there are none."""
    told = [(name, count) for name, count in counts.items() if count]
    if not told:
        return []
    most = max(count for _, count in told)
    parts = [shown(f"\n{title}\n", "bold")]
    for name, count in told[:SHOWN_LINES * 2]:
        bad = worrying or name in _WORRYING
        mark = "! " if bad else "  "
        if worrying:
            parts.append(shown(f"{mark}{count:>6,}  {line(name, 200)}\n", "$warning"))
        else:
            parts.append(joined(shown(f"{mark}{fitted(name, 20):<20} {count:>7,} ", "$warning" if bad else ""),
                                shown(bar(count / most, 6) + "\n", "$primary")))
    return parts
