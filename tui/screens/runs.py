"""Runs: all runs of the workspace, the one that is followed in full, and what can be done with it. A run that died, a
folder that is gone and a damaged file each have their words here; none of them loses anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static

from localdistill import (
    PruneItem,
    Quarantined,
    RunFolder,
    RunStatus,
    Verified,
    plan_pruning,
    quarantined,
    remove,
    verify_run,
    verify_workspace,
)
from tui.commands import Command
from tui.flows.comparing import compare
from tui.flows.store import compare_store, rebuild
from tui.run_page import RunPage, cap_command
from tui.state import AppState, RunView
from tui.text import joined, line, safe, shown
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, ReportDialog, Way
from tui.widgets.growing_list import GrowingList
from tui.widgets.log import SaidLog
from tui.widgets.pipeline import Pipeline
from tui.widgets.progress import WorkLine

_MUTED = "$foreground-muted"
_STYLES = {"running": "$text-success", "starting": "$text-success", "finished": "", "failed": "$text-error"}
_MARKS = {"running": "▶", "starting": "▶", "finished": "✓", "failed": "✗"}
_MEANING = {
    "interrupted": "Its process ended without a word: the machine went down, or it was killed. u resumes it; what is "
                   "done is skipped, and every reply that came is kept.",
    "not started": "Its folder was made, and no process ever began: who started it was ended in that moment. u starts "
                   "it.",
    "cancelled": "It was told to stop. u resumes it.",
    "partial": "Some questions have no answer yet. u asks only for those.",
    "paused": "It reached its cap on money. m raises the cap and goes on.",
}
LOG_BYTES = 20_000
"""How much of the end of a log is read."""
KEEP_DAYS = 7.0
MOST_LISTED = 200


class RunsPage(RunPage):
    """All runs, and one of them closely."""

    TITLE = "Runs"
    HELP = ("Runs live in processes of their own: closing this UI or losing the connection never stops one. Enter "
            "follows a run; its facts are replayed from the beginning.")
    ACTIONS = (
        Command("run.start", "start: a recipe", "run", "screen.start_run", "s",
                "Runs in a process of its own; what is stored is not done again."),
        Command("run.cancel", "cancel: run", "cancel", "screen.cancel_run", "x",
                "Stops at the next safe point; a second time, at once. The run can be resumed."),
        Command("run.resume", "resume: run", "resume", "screen.resume_run", "u",
                "Continues what failed, was cancelled, paused or died; what is done is skipped."),
        cap_command("run"),
        Command("run.attach", "attach: run", "attach", "screen.attach_run", "a", "Follow the chosen run.",
                in_footer=False),
        Command("run.log", "show: log of its processes", "attach", "screen.toggle_log", "l",
                "What libraries and processes wrote, in place of what the run said.", word="log"),
        Command("runs.queue", "show: queue of devices", "queue", "screen.show_queue", "",
                "Who computes on this machine, who waits for a device, and for whom.", in_footer=False),
        Command("runs.queue_add", "queue: a recipe", "queue add", "screen.queue_recipe", "",
                "Starts a run that begins once its device is free.", in_footer=False),
        Command("runs.queue_leave", "leave the queue: run", "queue remove", "screen.leave_queue", "",
                "Cancels the chosen run where it waits for a device; u resumes it.", in_footer=False),
        Command("runs.compare", "compare: two runs", "compare", "screen.compare_runs", "o",
                "The chosen one and another: models that answered the same items, in pairs.", in_footer=False),
        Command("run.quarantine", "show: unreadable replies", "quarantine", "screen.quarantine", "b",
                "What came instead of replies, with its first bytes.", in_footer=False),
        Command("run.verify", "verify: run", "runs verify", "screen.verify_run", "",
                "Reads every byte of the chosen run and of what it refers to, and compares it with its checksums.",
                in_footer=False),
        Command("runs.verify", "verify: workspace", "verify", "screen.verify_workspace", "",
                "Reads every run, artifact and journal, and says what is whole, damaged and missing.",
                in_footer=False),
        Command("store.check", "check: store", "store check", "screen.check_store", "",
                "Compares the store with every journal, and says what is missing.", in_footer=False),
        Command("store.rebuild", "rebuild: store", "store rebuild", "screen.rebuild_store", "",
                "Makes it again of the journals, after a yes; the old one is kept.", in_footer=False),
        Command("runs.prune", "free: disk of old runs", "runs prune", "screen.prune", "d",
                "Shows first what would go and why the rest stays."),
    )
    CSS_PATH = "runs.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._runs: tuple[RunStatus, ...] = ()
        self._looked = ""
        self._damaged = 0
        self._attached = ""

    def body(self) -> Iterable[Widget]:
        """A list on the left, the followed run on the right."""
        with Horizontal(id="split"):
            yield GrowingList(id="list")
            with Vertical(id="one"):
                yield Static(id="title")
                yield Pipeline(id="stages")
                yield WorkLine(id="work")
                yield Static(id="meaning")
                yield SaidLog(id="said-log")
                with VerticalScroll(id="raw-log"):
                    yield Static(id="raw-text")
        yield Static(shown("No runs yet.\n\ns starts a recipe; or go Home (1) and press p:\nthe pantry world runs in "
                           "minutes.", _MUTED), classes="empty", id="none")

    # ---- drawing

    def show(self, state: AppState) -> None:
        """Redraw what changed."""
        self.query_one("#none").display = not state.runs and state.watched is None
        self.query_one("#split").display = bool(state.runs) or state.watched is not None
        is_new = state.chosen != self._attached
        self._attached = state.chosen
        if state.runs != self._runs or is_new:
            self._runs = state.runs
            self._draw_list(state, self._attached if is_new else "")
        if state.watched is not None:
            self._draw(state.watched)

    def _draw_list(self, state: AppState, attached: str) -> None:
        """The runs; the cursor stays where it is, unless somebody asked to follow the run `attached`."""
        chosen = attached or self._chosen_id() or (state.watched.run_id if state.watched else "")
        newest_first = state.runs[::-1]
        self.query_one(GrowingList).fill([run.run_id for run in newest_first],
                                         lambda place: _run_line(newest_first[place]), chosen)

    def _draw(self, view: RunView) -> None:
        self._look_at_files(view)
        self.put("#title", joined(shown(line(view.run_id), "bold"), shown(
            f"  {line(view.recipe)}" if view.recipe else "", _MUTED)))
        self.query_one(Pipeline).show([(stage.name, stage.state) for stage in view.stages])
        self.query_one(WorkLine).show(view)
        self.query_one(SaidLog).show(view.said)
        meaning = _meaning(view, self._is_gone(view), self._damaged + view.damaged)
        told = self.query_one("#meaning", Static)
        told.display = bool(meaning)
        told.update(joined(*meaning))

    def _is_gone(self, view: RunView) -> bool:
        """Its folder was there and is not any more."""
        return view.run_id not in {run.run_id for run in self._runs} and not view.is_alive

    def _look_at_files(self, view: RunView) -> None:
        """Count damaged lines when the run changes its state, and read the log again when it shows."""
        key = f"{view.run_id} {view.state} {view.stage} {self.has_class('-log')}"
        if key == self._looked:
            return
        if not self._looked.startswith(f"{view.run_id} "):
            self._damaged = 0
        self._looked = key
        folder = RunFolder(self.ui.workspace.runs / view.run_id)
        self.ui.jobs.do(lambda: (folder.damaged_lines(), _end_of(folder.log)), self._files_seen, group="run-files")

    def _files_seen(self, seen: tuple[int, str]) -> None:
        damaged, log = seen
        text = self.query_one("#raw-text", Static)
        text.update(shown(log or "nothing was written", "" if log else _MUTED))
        self.query_one("#raw-log", VerticalScroll).scroll_end(animate=False)
        if damaged != self._damaged:
            self._damaged = damaged
            self.show(self.ui.state)

    # ---- the chosen run

    def _chosen_id(self) -> str:
        return self.query_one(GrowingList).chosen

    @property
    def run_id(self) -> str:
        """The run that is chosen in the list, else the followed one."""
        return self._chosen_id() or super().run_id

    @property
    def is_chosen(self) -> bool:
        """The list has a cursor."""
        return bool(self._chosen_id())

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Follow the chosen run."""
        if event.option_id:
            self.ui.attach(event.option_id)

    def action_attach_run(self) -> None:
        """Follow the chosen run."""
        if self.run_id:
            self.ui.attach(self.run_id)

    def action_toggle_log(self) -> None:
        """What processes wrote, or what the run said."""
        self.toggle_class("-log")
        self.show(self.ui.state)

    def action_compare_runs(self) -> None:
        """Two runs on one score card."""
        others = [run.run_id for run in reversed(self._runs) if run.run_id != self.run_id]
        compare(self.ui, self.run_id, others[0] if others else "")

    # ---- verifying, quarantine and pruning

    def action_show_queue(self) -> None:
        """List who computes here and who waits."""
        from tui.flows.queueing import show_queue

        show_queue(self.ui)

    def action_queue_recipe(self) -> None:
        """Choose a recipe whose run waits."""
        from tui.flows.queueing import add

        add(self.ui)

    def action_leave_queue(self) -> None:
        """Take the chosen run out of the queue."""
        from tui.flows.queueing import leave

        if run_id := self.run_id:
            leave(self.ui, run_id)

    def action_verify_run(self) -> None:
        """Read all that the chosen run left."""
        if run_id := self.run_id:
            self._verify(f"What {line(run_id)} left", lambda: verify_run(self.ui.workspace, run_id))

    def action_verify_workspace(self) -> None:
        """Read all that lies here."""
        self._verify("What lies in this workspace", lambda: verify_workspace(self.ui.workspace))

    def _verify(self, title: str, look: Callable[[], list[Verified]]) -> None:
        def seen(found: list[Verified]) -> None:
            self.ui.push_screen(ReportDialog(title, _verdicts(found)))

        self.ui.notify("reading every byte; this takes a while for large models", markup=False)
        self.ui.jobs.do(look, seen, group="verify")

    def action_check_store(self) -> None:
        """Compare the store with the journals."""
        compare_store(self.ui)

    def action_rebuild_store(self) -> None:
        """Make the store again."""
        rebuild(self.ui)

    def action_quarantine(self) -> None:
        """List what could not be read."""
        if not (run_id := self.run_id):
            return
        def look() -> list[tuple[str, str]]:
            found, lost = quarantined(RunFolder.open(self.ui.workspace.runs, run_id))
            rows = [_quarantined(item) for item in found][-MOST_LISTED:]
            return [*rows, ("damaged", f"{lost}: some of what stood there is lost")] if lost else rows

        def seen(rows: list[tuple[str, str]]) -> None:
            told = rows or [("none", "every reply of this run could be read")]
            self.ui.push_screen(ReportDialog(f"Unreadable replies of {line(run_id)}", told))

        self.ui.jobs.do(look, seen, group="quarantine")

    def action_prune(self, keep_days: float = KEEP_DAYS) -> None:
        """Show what would go; nothing goes without a yes."""
        self.ui.jobs.do(lambda: plan_pruning(self.ui.workspace, keep_days),
                        lambda items: self._offer_pruning(items, keep_days), group="prune")

    def _offer_pruning(self, items: Sequence[PruneItem], keep_days: float) -> None:
        going = [item for item in items if not item.kept_by]
        total = _size(sum(item.size_bytes for item in going))
        text = "\n".join(["Goes:", *_listed(going)] if going else ["Nothing would go."])
        text += "\n" + "\n".join(["Stays:", *_reasons([item for item in items if item.kept_by])])
        ways = [Way(f"remove what goes: {len(going)} folders, {total}", lambda: self._confirm(going, total),
                    "asks once more")] if going else []
        if keep_days:
            ways.append(Way("look again without an age", lambda: self.action_prune(0.0),
                            f"runs younger than {keep_days:g} days are kept now"))
        ways.append(Way("leave everything as it is", lambda: None))
        self.ui.push_screen(ChoiceDialog("Free disk", text, ways))

    def _confirm(self, going: Sequence[PruneItem], total: str) -> None:
        self.ui.push_screen(ConfirmDialog(
            f"Remove {len(going)} folders of runs and artifacts, {total}, for good? Traces in the store stay.",
            lambda: self.ui.jobs.do(lambda: remove(self.ui.workspace, going), lambda stay: self._removed(total, stay))))

    def _removed(self, total: str, stay: Sequence[PruneItem]) -> None:
        if stay:
            reasons = "\n".join(f"{item.kind} {line(item.name, 30)}: {line(item.kept_by)}" for item in stay)
            self.ui.notify(safe(f"{len(stay)} folders stay, as they are needed by now:\n{reasons}"), markup=False)
            return
        self.ui.notify(f"{line(total)} are free again", markup=False)


def _run_line(run: RunStatus) -> Content:
    style, mark = _STYLES.get(run.state, "$text-warning"), _MARKS.get(run.state, "!")
    # Beside the state stands when it was reached.
    when = run.started_at if run.alive else run.updated_at
    at = time.strftime("%d %b %H:%M", time.localtime(when)) if when else ""
    beside = f" in {line(run.stage, 12)}" if run.state != "finished" and run.stage else f"  {at}"
    damaged = f"\n  ! damaged: {line(run.problem, 60)}" if run.problem else ""
    return joined(shown(f"{mark} ", style), shown(line(run.run_id, 40)), shown(f"\n  {line(run.state)}", style),
                  shown(beside, _MUTED), shown(damaged, "$text-warning"))


def _meaning(view: RunView, is_gone: bool, damaged: int) -> list[Content]:
    """What the state of the run means for the user, in sentences; nothing to say for one that goes well."""
    parts = []
    if is_gone:
        parts.append(shown("Its folder is gone: somebody removed it. What is shown was read before. Its traces are in "
                           "the store and its artifacts stay; only its own record is lost.\n", "$warning"))
    elif view.failure is not None and not view.is_alive:
        parts.append(joined(shown(f"{line(view.failure.text, 2000)}\n", "bold $error"),
                            shown(f"next: {line(view.failure.hint, 2000)}\n" if view.failure.hint else "")))
    if not is_gone and view.state in _MEANING:
        parts.append(shown(_MEANING[view.state] + "\n", "$warning"))
    if damaged:
        parts.append(shown(f"{damaged:,} lines of its record of facts are damaged and were passed over; replies, "
                           "traces and artifacts are not kept there.\n", "$warning"))
    return parts


def _verdicts(found: Sequence[Verified]) -> list[tuple[str, str]]:
    """What is damaged or missing, one by one, above what is whole."""
    odd = [one for one in found if one.state != "whole"]
    rows = [(line(one.state), f"{one.kind} {line(one.name, 40)}: {line('; '.join(one.problems), 400)}\n"
                              f"{line(one.hint, 200)}") for one in odd[:MOST_LISTED]]
    size = _size(sum(one.size_bytes for one in found))
    return [*rows, ("whole", f"{len(found) - len(odd):,} of {len(found):,}; {size} were read")]


def _quarantined(item: Quarantined) -> tuple[str, str]:
    at = time.strftime("%H:%M:%S", time.localtime(item.at))
    start = item.body[:200].decode("utf-8", "backslashreplace")
    return at, f"{line(item.teacher)}: {line(item.error)}\n{len(item.body):,} bytes: {start}"


def _listed(items: Sequence[PruneItem]) -> list[str]:
    """One line per folder, the largest first."""
    largest = sorted(items, key=lambda item: -item.size_bytes)
    lines = [f"  {_size(item.size_bytes):>7}  {item.kind} {line(item.name, 30)}  {line(item.label, 30)}".rstrip()
             for item in largest[:MOST_LISTED]]
    return lines + ([f"  and {len(items) - MOST_LISTED} more"] if len(items) > MOST_LISTED else [])


def _reasons(items: Sequence[PruneItem]) -> list[str]:
    """What stays, by what keeps it."""
    kept: dict[str, list[PruneItem]] = {}
    for item in items:
        what = "runs" if item.kind == "run" else "artifacts"
        why = item.kept_by if item.kind == "run" else "a run or an artifact that stays needs them"
        kept.setdefault(f"{what}: {why}", []).append(item)
    return [f"  {_size(sum(item.size_bytes for item in group)):>7}  {len(group)} {why}" for why, group in kept.items()]


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} GB"


def _end_of(path: Path) -> str:
    """The last lines of a file; empty when it is not there."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, path.stat().st_size - LOG_BYTES))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""
