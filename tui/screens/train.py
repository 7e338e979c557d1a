"""Train: what training needs and does - plan and memory, the curves of every arm, speed, checkpoints, and what it
said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from localdistill import Plan, RunFolder, TuningResult, plan_training, tuning_of, tuning_rows
from tui.commands import Command
from tui.run_page import RunPage, stage_commands
from tui.state import AppState, Curve, RunView
from tui.text import joined, line, shown
from tui.widgets.dialogs import ReportDialog
from tui.widgets.facts import Facts
from tui.widgets.line_chart import COLOURS, LETTERS, LineChart, Series
from tui.widgets.log import SaidLog
from tui.widgets.progress import WorkLine, duration

STAGE = "train"
DEV = "dev score"
KNOWN = "token_accuracy"
CURVES = (("loss", "loss"), (DEV, "development score"), (KNOWN, "trained tokens ranked first"),
          ("learning_rate", "learning rate"),
          ("grad_norm", "gradient norm"), ("tokens_per_s", "tokens per second"))
_MUTED = "$foreground-muted"


@dataclass(frozen=True)
class Arm:
    """One training as it is known now."""

    name: str
    seed: int | None
    """None where it is not known: nothing was trained yet, or by an older version."""
    title: str
    state: str
    """`trained`, `trains`, or `waits`."""


class TrainPage(RunPage):
    """The trainings of one run."""

    TITLE = "Train"
    HELP = ("One curve per arm and seed; the letter on a curve is that of its line below. Memory is estimated by the "
            "plan and measured on the heaviest batch before step 1. A training that was stopped goes on from its "
            "newest checkpoint with the same losses.")
    STAGE = STAGE
    ACTIONS = (
        *stage_commands("train", STAGE),
        Command("train.curve", "show: another curve", "attach", "screen.next_curve", "g",
                "Loss, development score where there is one, the share of trained tokens that the student ranks first, "
                "learning rate, gradient norm, tokens per second.",
                word="curve"),
        Command("train.tuning", "show: how the rate was found", "tune", "screen.show_tuning", "t",
                "Every try of the tuning of this run, where its recipe has a [train.tune]: rate, rank, epochs, steps, "
                "loss, development score, and what went on.", word="tuning"),
        Command("train.log", "show: the log", "attach", "screen.toggle_log", "l",
                "What training said, in place of the curves where there is no room for both.", word="log"),
    )
    CSS_PATH = "train.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._curve = 0
        self._planned = ""
        self._plan: Plan | None = None

    def body(self) -> Iterable[Widget]:
        """Curves and arms, plan and log."""
        with Vertical(id="live"):
            yield WorkLine(id="work")
            with Horizontal(id="split"):
                with Vertical(id="curves"):
                    yield Static(id="curve-title")
                    yield LineChart(id="chart")
                    yield Static(id="arms")
                with Vertical(id="beside"):
                    yield Facts(id="plan", labels=len("training"))
                    yield Facts(id="more", labels=len("training"))
                    yield SaidLog(id="said-log")
        yield Static(shown("Nothing was trained here yet.\n\ns starts a recipe up to its training.", _MUTED),
                     classes="empty", id="none")

    def show(self, state: AppState) -> None:
        """Redraw for the followed run."""
        view = state.watched
        self.query_one("#none").display = view is None
        self.query_one("#live").display = view is not None
        if view is None:
            return
        self._look_up_plan(view.run_id)
        self.query_one(WorkLine).show(view)
        name, title = CURVES[self._curve]
        arms = arms_of(view)
        lines = [Series(arm.title, _points(view, arm, name)) for arm in arms]
        self.put("#curve-title", joined(shown(title, "bold"), shown(" over steps   g: another curve", _MUTED)))
        self.query_one(LineChart).show(lines, _why_no_curve(view, arms))
        self.put("#arms", _arm_table(view, arms))
        self.query_one("#plan", Facts).show(_facts(view, self._plan))
        self.query_one("#more", Facts).show(
            [(item.label, item.text) for item in self._plan.lines if item.label != "memory"] if self._plan else [])
        self.query_one(SaidLog).show(view.said_in(STAGE))

    def _look_up_plan(self, run_id: str) -> None:
        if self._planned == run_id:
            return
        self._planned, self._plan = run_id, None

        def look() -> Plan:
            folder = RunFolder(self.ui.workspace.runs / run_id)
            return plan_training(folder.recipe(), Path(folder.request()["base"]))

        def seen(plan: Plan) -> None:
            if self._planned == run_id:
                self._plan = plan
                self.show(self.ui.state)

        self.ui.jobs.do(look, seen, group="train-plan", failed=lambda error: None)

    def action_next_curve(self) -> None:
        """The next number. Those that not every training measures are passed over where this one does not."""
        view = self.ui.state.watched
        self._curve = (self._curve + 1) % len(CURVES)
        while (name := CURVES[self._curve][0]) in (DEV, KNOWN) and not (view and is_measured(view, name)):
            self._curve = (self._curve + 1) % len(CURVES)
        self.show(self.ui.state)

    def action_show_tuning(self) -> None:
        """The tries of the tuning of the run."""
        if run_id := self.run_id:
            report = ReportDialog("How the rate was found", waiting="reading what was tried ...")
            self.ui.push_screen(report)
            self.ui.jobs.do(lambda: tuning_of(self.ui.workspace, run_id), lambda found: report.fill(_tries(found)),
                            group="tuning", failed=report.fail)

    def action_toggle_log(self) -> None:
        """Log or curves, where both have no room."""
        self.toggle_class("-log")


def arms_of(view: RunView) -> list[Arm]:
    """Every training of the run: done, under way, or still to come."""
    done = [(made.arm, made.seed) for made in view.artifacts if made.kind == "adapter"]
    measured = [(curve.arm, curve.seed) for curve in view.series if curve.stage == STAGE and curve.arm]
    tables = [table for table in view.counts if table.what == "dataset" and table.arm]
    begun = {arm for arm, _ in (*done, *measured)} | {table.arm for table in tables if table.stage == STAGE}
    planned = [(table.arm, None) for table in tables if table.stage == "format" and table.arm not in begun]
    trainings = list(dict.fromkeys([*done, *measured, *planned]))
    several = len({seed for _, seed in trainings if seed is not None}) > 1
    arms = []
    for arm, seed in trainings:
        state = ("trained" if (arm, seed) in done else
                 "trains" if (arm, seed) in measured and view.is_alive else "waits")
        arms.append(Arm(arm, seed, _called(arm, seed) if several else arm, state))
    return arms


def _tries(found: TuningResult) -> list[tuple[str, str]]:
    """What was chosen and why, then every try."""
    tries = [(f"rung {rung}", f"rate {rate}, rank {rank}, epochs {epochs}, {steps} steps: loss {loss}, score {score}, "
              f"{took}, {became}")
             for rung, rate, rank, epochs, steps, loss, score, took, became in tuning_rows(found)]
    return [("chosen", found.line), *(("", text) for text in found.notes), *tries]


def is_measured(view: RunView, name: str) -> bool:
    """Some training measured it."""
    return any(curve.stage == STAGE and curve.name == name for curve in view.series)


def _called(arm: str, seed: int | None) -> str:
    return arm if seed is None else f"{arm}, seed {seed}"


def _points(view: RunView, arm: Arm, name: str) -> Sequence[tuple[int, float]]:
    """The curve of a measured name while `arm` was trained."""
    return view.series.get(Curve(STAGE, arm.name, arm.seed, "", name), ())


def _why_no_curve(view: RunView, arms: Sequence[Arm]) -> str:
    stage = next((s for s in view.stages if s.name == STAGE), None)
    if stage is None and view.stages:
        return "this run trains nothing"
    if arms and all(arm.state == "trained" for arm in arms):
        return "no curves: an earlier run trained these adapters, and they were used again"
    return "the curves begin with the first step"


def _arm_table(view: RunView, arms: Sequence[Arm]) -> Content:
    """One line per arm; its letter is the curve's."""
    if not arms:
        return shown("")
    width, dev = min(30, max(len(arm.title) for arm in arms)), is_measured(view, DEV)
    head = f"{'loss':>8}  {'dev, best':>12}" if dev else f"{'loss':>8}  {'rate':>8}"
    parts = [shown(f"  {'arm':<{width}}  {head}  {'tokens/s':>8}  {'step':>6}  state\n", _MUTED)]
    for index, arm in enumerate(arms):
        loss, rate, speed = (_points(view, arm, name) for name in ("loss", "learning_rate", "tokens_per_s"))
        second = _dev_cell(_points(view, arm, DEV)) if dev else f"{rate[-1][1]:>8.2g}" if rate else f"{'-':>8}"
        cells = (f"{loss[-1][1]:>8.4f}" if loss else f"{'-':>8}", second,
                 f"{speed[-1][1]:>8,.0f}" if speed else f"{'-':>8}", f"{loss[-1][0]:>6,}" if loss else f"{'-':>6}")
        parts.append(shown(LETTERS[index % len(LETTERS)], f"bold {COLOURS[index % len(COLOURS)]}"))
        parts.append(shown(f" {line(arm.title, width):<{width}}  {'  '.join(cells)}  "))
        mark = {"trained": "✓ trained", "trains": "▶ trains", "waits": "· waits"}[arm.state]
        parts.append(shown(mark + "\n", {"trained": "$success", "trains": "$primary"}.get(arm.state, _MUTED)))
    return joined(*parts)


def _dev_cell(points: Sequence[tuple[int, float]]) -> str:
    """The newest development score and the best one, in percent."""
    if not points:
        return f"{'-':>12}"
    newest, best = 100 * points[-1][1], 100 * max(value for _, value in points)
    return f"{f'{newest:.1f}, {best:.1f}':>12}"


def _facts(view: RunView, plan: Plan | None) -> list[tuple[str, str]]:
    """Memory, planned and measured, checkpoints, what is left."""
    rows: list[tuple[str, str]] = []
    if view.stage == STAGE and view.is_alive and view.remaining_s is not None:
        rows.append(("left", f"{duration(view.remaining_s)} for this training"))
    planned = next((item.text.partition(" (")[0] for item in plan.lines if item.label == "memory"), "") if plan else ""
    peaks = [points[-1][1] for curve, points in view.series.items()
             if curve.stage == STAGE and curve.name == "probe_peak_bytes" and points]
    measured = f"measured {max(peaks) / 1e9:.2f} GB before step 1" if peaks else ""
    if planned or measured:
        rows.append(("memory", "; ".join(text for text in (measured, f"planned {planned}" if planned else "") if text)))
    for curve, points in view.series.items():
        if curve.stage == STAGE and curve.name == "checkpoint" and points:
            rows.append(("saved", f"{_called(curve.arm, curve.seed)}: checkpoint of step {points[-1][0]:,}"))
        if curve.stage == STAGE and curve.name == KNOWN and points:
            share = f"ranks {100 * points[-1][1]:.1f} % of its trained tokens first"
            rows.append(("learned", f"{_called(curve.arm, curve.seed)}: {share}"))
    return rows + [("!", text) for text in (plan.warnings if plan else ())]
