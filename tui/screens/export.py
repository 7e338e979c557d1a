"""Export: what runs made for other programs - files with checksums, the parity gate item by item, what the files
scored, terms, and the commands that use them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import Cancel, Exported, FormScore, Standing, copy_to_lm_studio, exports_of
from tui.commands import Command
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.widgets.choose import Choose
from tui.widgets.copy_line import CopyLine
from tui.widgets.recipe_picker import recipes_of

WIDE = 120
"""Columns from which files and checks stand side by side."""
_STATES = {"whole": ("✓ exported", "$success"), "unchecked": ("· not checked yet", "$foreground-muted"),
           "damaged": ("✗ damaged", "$error"), "gone": ("! files gone", "$warning"),
           "nothing": ("- nothing exported", "$warning"), "refused": ("✗ refused by the parity gate", "$error"),
           "not yet": ("· not yet", "$foreground-muted")}
_WHY = {
    "unchecked": "Every file is being compared with its checksum.",
    "damaged": "A file is not what was written, so none is offered. Resume the run on Runs: it sets the folder aside "
               "and makes it again.",
    "gone": "The folder was removed. Resume the run on Runs, or press m: the same recipe makes it again.",
    "nothing": "No arm was better than the base and harmless. a exports one all the same; so do the commands below.",
    "refused": "The GGUF did not behave like the merged model, so nothing was exported. The failed checks are marked; "
               "the report is in the run's folder, parity.json.",
    "not yet": "This run has not come to its export.",
}
_TERMS = {"": "no terms of use are known to apply", "allowed": "allowed", "conditional": "allowed under conditions",
          "unknown": "nobody knows", "prohibited": "training on these answers is prohibited"}


class ExportPage(Page):
    """What came out."""

    TITLE = "Export"
    HELP = ("Every exported file was compared with the merged model before it got its name (the parity gate), and run "
            "on the recipe's benchmarks. Tab goes to the commands; enter copies the one in focus.")
    ACTIONS = (
        Command("export.chat", "talk: to this export", "chat", "screen.chat", "t", "Opens Chat with the best file."),
        Command("export.copy", "copy: command", "exports", "screen.copy", "c",
                "Copies the command in focus, else the first one."),
        Command("export.make", "make: export", "export", "screen.make", "m",
                "Runs a recipe up to its export; what is done is not done again."),
        Command("export.arm", "arm: export one all the same", "resume", "screen.pick_arm", "a",
                "Resumes the run of this export, which exports the arm that you name, whatever the score card says.",
                word="arm"),
        Command("export.studio", "LM Studio: copy there", "exports", "screen.copy_to_studio", "l",
                "Copies the recommended file to where LM Studio finds it.", in_footer=False),
        Command("export.refresh", "look again: exports", "exports", "screen.refresh_exports", "ctrl+r",
                in_footer=False),
    )
    CSS_PATH = "export.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._found: tuple[Exported, ...] | None = None
        self._listed: tuple[Exported, ...] = ()
        self._chosen = ""
        self._runs: tuple[tuple[str, str], ...] | None = None

    def body(self) -> Iterable[Widget]:
        """The runs on top, the chosen one's export below."""
        yield Static(shown("looking for exports ...", "$foreground-muted"), classes="empty", id="none")
        yield OptionList(id="runs", markup=False)
        with VerticalScroll(id="detail"):
            with Vertical(id="left"):
                yield Static(id="about")
                yield Static(id="files")
                yield Vertical(id="commands")
                yield Static(id="terms")
            with Vertical(id="right"):
                yield Static(id="gate")
                yield Static(id="scores")

    def on_mount(self) -> None:
        """Look once the frame stands."""
        self.query_one("#runs").display = self.query_one("#detail").display = False

    def on_resize(self) -> None:
        """Two columns where there is room."""
        self.query_one("#detail").set_class(self.size.width >= WIDE, "wide")
        if (made := self._made) is not None:
            self._draw_gate(made)

    def show(self, state: AppState) -> None:
        """Look again when a run came, went or changed its state."""
        runs = tuple((run.run_id, run.state) for run in state.runs)
        if runs != self._runs or self._found is None:
            self._runs = runs
            self.action_refresh_exports()

    def action_refresh_exports(self) -> None:
        """Read what is there; the files of the chosen run are compared with their checksums afterwards."""
        self.ui.jobs.do(lambda: exports_of(self.ui.workspace, checked=False), self._read, group="exports")

    def _read(self, found: Sequence[Exported]) -> None:
        before, self._listed = self._listed, tuple(found)
        if before != self._listed or self._found is None:
            self._found = self._listed
            self._draw_all()
        self._check()

    def _check(self) -> None:
        """Look into the files of the chosen run: large ones take a while, in a thread, the first time."""
        run_id, workspace, jobs = self._chosen, self.ui.workspace, self.ui.jobs
        if run_id:
            jobs.do(lambda: exports_of(workspace, run_id, cancel=Cancel(jobs.asked_to_stop)), self._checked,
                    group="export-check")

    def _checked(self, looked: Sequence[Exported]) -> None:
        """Replace what is known of one run by what was found in its files."""
        before = self._found or ()
        self._found = tuple(next((made for made in looked if made.run == old.run), old) for old in before)
        if before != self._found:
            self._draw_all()

    def _draw_all(self) -> None:
        found = self._found or ()
        none, runs = self.query_one("#none", Static), self.query_one("#runs", OptionList)
        none.display = not found
        none.update(shown("Nothing is exported yet. m runs a recipe up to its export;\n"
                          "on Home, p does so with the pantry world, in minutes.", "$foreground-muted"))
        self.query_one("#detail").display = bool(found)
        runs.display = len(found) > 1
        names = [made.run for made in found]
        if self._chosen not in names:
            self._chosen = next((made.run for made in found if made.files), names[0] if names else "")
        runs.clear_options()
        runs.add_options([Option(_run_line(made), id=made.run) for made in found])
        if found:
            runs.highlighted = names.index(self._chosen)
            self._draw()

    @property
    def _made(self) -> Exported | None:
        return next((made for made in self._found or () if made.run == self._chosen), None)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the export of the run under the cursor."""
        if event.option_id and event.option_id != self._chosen:
            self._chosen = event.option_id
            self._draw()
            self._check()

    def _draw(self) -> None:
        if (made := self._made) is None:
            return
        self.query_one("#about", Static).update(_about(made))
        self.query_one("#files", Static).update(_files(made))
        commands = self.query_one("#commands")
        commands.remove_children()
        commands.mount_all([CopyLine(label, command, made.anywhere(command) if made.folder else command)
                            for label, command in made.commands])
        self.query_one("#terms", Static).update(_terms(made))
        self._draw_gate(made)
        self.query_one("#scores", Static).update(_scores(made))
        self.query_one("#detail").scroll_home(animate=False)

    def _draw_gate(self, made: Exported) -> None:
        """Details wrap under themselves, so their width must be known."""
        room = self.size.width - 5
        self.query_one("#gate", Static).update(_gate(made, room // 2 - 2 if self.size.width >= WIDE else room))

    # ---- actions

    def action_chat(self) -> None:
        """Open Chat with the best file."""
        made = self._made
        if made is None or not made.for_chat:
            self.notify("there is no file to talk to yet", markup=False)
            return
        self.ui.go("chat", file=made.for_chat[0].path)

    def action_copy(self) -> None:
        """Copy the command in focus, else the first one."""
        focused = self.focused if isinstance(self.focused, CopyLine) else next(iter(self.query(CopyLine)), None)
        if focused is not None:
            focused.action_copy()

    def action_copy_to_studio(self) -> None:
        """Copy the recommended file to where LM Studio finds it."""
        made = self._made
        if made is None or not made.for_chat:
            self.notify("there is no file to copy yet", markup=False)
            return
        run, workspace, jobs = made.run, self.ui.workspace, self.ui.jobs
        self.notify("copying to LM Studio ...", markup=False)
        jobs.do(lambda: copy_to_lm_studio(workspace, run, cancel=Cancel(jobs.asked_to_stop)),
                lambda place: self.notify(safe(f"copied: {place}"), markup=False), group="export-copy")

    def action_pick_arm(self) -> None:
        """Ask which arm the run of this export is to export."""
        made = self._made
        if made is None or not made.arms:
            self.notify("there is no run whose arm could be exported", markup=False)
            return
        run_id = made.run
        choices = [(arm, line(arm), "the untrained student" if arm == "base" else "") for arm in made.arms]
        self.ui.push_screen(Choose("Export this arm, whatever the score card says", choices,
                                    lambda arm: self.ui.resume_run(run_id, arm=arm)))

    def action_make(self) -> None:
        """Ask for the recipe and run it up to its export."""
        found = recipes_of(self.ui.workspace.root)
        choices = [(str(path), path.name, "in this workspace") for path in found.own]
        choices += [(path.stem, path.stem, "shipped") for path in found.shipped]
        self.ui.push_screen(Choose("Run up to its export", choices, lambda name: self.ui.start_recipe(
            name, until="export"), typed="or the path of a recipe"))


def _run_line(made: Exported) -> Content:
    mark, style = _STATES[made.state]
    return joined(shown(f"{line(made.run, 28):<28} "), shown(f"{mark}  ", style),
                  shown(line(made.arm), "$foreground-muted"))


def _about(made: Exported) -> Content:
    mark, style = _STATES[made.state]
    parts = [shown(line(made.run), "bold"), shown(f"  {mark}", style)]
    if made.arm:
        thinks = {True: "thinks first", False: "answers at once", None: "thinks as it is told"}[made.thinks]
        parts.append(shown(f"  arm {line(made.arm)}, {thinks}", "$foreground-muted"))
    if made.state in _WHY:
        parts.append(shown(f"\n\n{_WHY[made.state]}"))
    parts += [shown(f"\n{line(text, 400)}", "$warning") for text in made.why]
    parts += [shown(f"\n! {line(text, 400)}", "$warning") for text in made.cautions]
    parts += [shown(f"\n! {text}", "$warning") for text in made.unknown]
    return joined(*parts)


def _files(made: Exported) -> Content:
    if not made.files:
        return Content("")
    parts = [shown("\nfiles", "bold"), shown("  with their SHA-256", "$foreground-muted")]
    for file in made.files:
        parts += [shown(f"\n  {line(file.quant):<7}", "bold"), shown(f"{_size(file.size_bytes):>9}  "),
                  shown(line(file.path.name)), shown(file.precision(), "$foreground-muted"),
                  shown(f"\n  {line(file.sha256)}", "$foreground-muted")]
    if made.choice:
        parts.append(shown(f"\n\n{line(made.choice.sentence, 400)}", "bold"))
        parts += [shown(f"\n! {line(text, 400)}", "$warning") for text in made.choice.worse]
        parts += [shown(f"\n  {line(text, 400)}", "$foreground-muted") for text in made.choice.unclear]
    parts += [shown("\n\nuse them", "bold"), shown(f"  in {made.folder}  (the folder is copied too)",
                                                    "$foreground-muted")]
    return joined(*parts)


def _terms(made: Exported) -> Content:
    if made.state not in ("whole", "gone"):
        return Content("")
    said = _TERMS.get(made.terms, made.terms)
    providers = f" ({', '.join(map(line, made.terms_of))})" if made.terms_of else ""
    licences = line(made.licences_told)
    return joined(shown("terms     ", "$foreground-muted"), shown(f"{said}{providers}"),
                  shown("\nlicences  ", "$foreground-muted"), shown(f"{licences} (of the questions)"))


def _gate(made: Exported, width: int) -> Content:
    if not made.gate:
        return Content("")
    good = sum(item.passed for item in made.gate)
    word, style = ("passed", "$success") if made.gate_passed else ("failed", "bold $error")
    parts = [shown("parity gate  ", "bold"), shown(word, style),
             shown(f"  {good} of {len(made.gate)}, compared in {line(made.compute)}", "$foreground-muted")]
    for item in made.gate:
        mark, style = ("✓", "$success") if item.passed else ("✗", "bold $error")
        parts += [shown(f"\n  {mark} ", style), shown(f"{line(item.name, 13):<14}")]
        detail = textwrap.wrap(line(item.detail, 400), max(20, width - 18)) or [""]
        parts.append(shown(("\n" + " " * 18).join(detail), "" if not item.passed else "$foreground-muted"))
    return joined(*parts)


def _scores(made: Exported) -> Content:
    """The arm beside the base on each benchmark, then its forms: each against the base and against the model as it was
    trained."""
    parts: list[Content] = []
    for task in dict.fromkeys([*(entry.task for entry in made.standings), *(entry.task for entry in made.scores)]):
        scores = [score for score in made.scores if score.task == task]
        standings = [standing for standing in made.standings if standing.task == task]
        guard = " (guard)" if any(standing.is_guard for standing in standings) else ""
        count = f"  {scores[0].items:,} items" if scores else ""
        parts += [shown(f"\n{line(task)}{guard}", "bold"), shown(count, "$foreground-muted")]
        parts += [part for standing in standings for part in _beside(standing)]
        if scores:
            parts.append(shown(f"\n  {'':<8} {'score':>7} {'95 %':>13} {'to base':>8}  to trained, same text",
                               "$foreground-muted"))
        for score in scores:
            parts += _form(score)
        parts.append(Content("\n"))
    parts += [shown(f"\n! not measured: {line(text)}", "$warning") for text in made.not_measured]
    return joined(*parts)


def _beside(standing: Standing) -> list[Content]:
    base, score = ("?" if v is None else f"{100 * v:.1f} %" for v in (standing.base, standing.score))
    verdict = standing.verdict if standing.difference is None else (
        f"{standing.verdict} ({100 * standing.difference:+.1f} points)")
    style = {"better": "$text-success", "cannot tell": ""}.get(standing.verdict, "bold $text-error")
    return [shown(f"\n  base {base}, this arm {score}: "), shown(line(verdict), style)]


def _form(score: FormScore) -> list[Content]:
    low, high = (100 * v for v in score.interval)
    to_base = "-" if score.base_difference is None else f"{100 * score.base_difference:+.1f}"
    worse = score.base_verdict == "worse"
    parts = [shown(f"\n  {line(score.form):<8} {100 * score.score:5.1f} %"),
             shown(f" {_range(low, high):>13}", "$foreground-muted"),
             shown(f" {to_base:>8}{'!' if worse else ' '}", "bold $text-error" if worse else "")]
    if score.difference is not None:
        same = "" if score.same_text is None else f"  {score.same_text:,}"
        parts += [shown(f" {100 * score.difference:+5.1f}"),
                  shown(f"  {line(score.verdict)}{same}", "$foreground-muted")]
    return parts


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


def _range(low: float, high: float) -> str:
    return f"{low:.1f} to {high:.1f}"
