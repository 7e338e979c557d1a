"""Teachers: who can be asked, whether a key is there, what the last probe found, what a recipe's teachers will cost,
and what the followed run has spent. Money is spent only after a question that says how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import (
    KnownTeacher,
    LocalDistillError,
    RunFolder,
    UsageError,
    facts_of,
    findings_of,
    known_teachers,
    load_recipe,
    make_plan,
    provider,
    recipe_file,
)
from tui.commands import Command
from tui.flows import keys
from tui.flows.asking import ask_some, plan_rows, raise_cap
from tui.flows.probing import Probing
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, shown
from tui.widgets.budget import BudgetLine
from tui.widgets.facts import DIM, MUTED, FactRows, Facts
from tui.widgets.recipe_picker import recipes_of

KEY_MARKS = {"missing": ("✗", "$warning"), "kept back": ("!", "$warning"), "optional": ("·", DIM),
             "not needed": ("·", DIM)}


@dataclass(frozen=True)
class Catalogue:
    """Who can be asked from here."""

    teachers: tuple[KnownTeacher, ...]
    recipes: tuple[str, ...]
    """Names of shipped recipes, then recipe files of the workspace."""


class TeachersPage(Page):
    """Endpoints, keys, probes, quotes, budget."""

    TITLE = "Teachers"
    HELP = ("Known providers and the recipes that ask them. A provider shows what is known of it and what the last "
            "probe found; a recipe shows what its teachers will take: calls, tokens, money, time. Nothing is asked and "
            "nothing is spent before a question that says how much.")
    ACTIONS = (
        Command("teacher.show", "show: teacher", "teacher show", "screen.show_teacher", "enter",
                "All that is known of it, with documents and dates.", in_footer=False),
        Command("teacher.probe", "probe: teacher", "teacher probe", "screen.probe", "p",
                "A few small questions: is its reasoning whole, what are its limits, price and speed."),
        Command("teacher.probe_file", "probe: GGUF file", "teacher probe", "screen.probe_file", "g",
                "The same questions to a model on this machine; costs nothing.", in_footer=False),
        Command("teacher.tune", "tune: GGUF file", "teacher tune", "screen.tune", "t",
                "Measures which settings of llama.cpp are fastest here, and remembers them.", in_footer=False),
        Command("teacher.stop", "stop: probe", "teacher probe", "screen.stop_probe", "x", in_footer=False),
        Command("teacher.ask", "ask: some prompts first", "plan", "screen.ask_some", "s",
                "Asks a few prompts of the chosen recipe, keeps the answers, and narrows the quote down."),
        Command("teacher.cap", "raise: cap of the run", "resume", "screen.raise_cap", "c",
                "A new cap for the followed run, which then goes on."),
        Command("keys.set", "set: API key", "keys set", "screen.set_key", "k",
                "Typed where nobody sees it, bound to one host."),
        Command("keys.list", "list: API keys", "keys list", "screen.list_keys", "l", "Names, hosts and origins; never "
                "the keys.", in_footer=False),
        Command("keys.remove", "forget: API key", "keys remove", "screen.forget_key", "f", in_footer=False),
        Command("keys.allow", "allow: variable to a host", "keys allow", "screen.allow_key", "a",
                "Approves that an environment variable is sent to a host.", in_footer=False),
        Command("teacher.refresh", "look again: teachers", "teacher list", "screen.look", "ctrl+r", in_footer=False),
    )
    CSS_PATH = "teachers.tcss"
    AUTO_FOCUS = "#who"

    def __init__(self) -> None:
        super().__init__()
        self._teachers: dict[str, KnownTeacher] = {}
        self._chosen = ""
        self._asked_run = ""

    def body(self) -> Iterable[Widget]:
        """Who on the left; what is known on the right; money below."""
        with Horizontal(id="split"):
            yield OptionList(id="who", markup=False)
            with VerticalScroll(id="detail"):
                yield Static(shown("looking at who is known ...", MUTED), id="title")
                yield Facts(id="known")
        with Vertical(id="below"):
            yield Static(id="work")
            yield BudgetLine(id="budget")

    def on_mount(self) -> None:
        """Look once the frame stands."""
        self._probing = Probing(self.ui, self._working, self.action_look)
        self.query_one("#work").display = False
        self.call_after_refresh(self.action_look)

    def on_unmount(self) -> None:
        """Nobody waits for a probe any more."""
        self._probing.stop()

    # ---- who there is

    def action_look(self) -> None:
        """Read the providers' files, the probes that were kept, and which recipes there are."""
        workspace = self.ui.workspace

        def work() -> Catalogue:
            found = recipes_of(workspace.root)
            names = (*map(str, found.own), *(path.stem for path in found.shipped))
            return Catalogue(tuple(known_teachers(workspace)), names)

        self.ui.jobs.do(work, self._looked, group="teachers", failed=self._cannot)

    def _looked(self, seen: Catalogue) -> None:
        self._teachers = {teacher.name: teacher for teacher in seen.teachers}
        who = self.query_one("#who", OptionList)
        chosen = self._chosen
        who.clear_options()
        who.add_option(Option(shown("endpoints", "bold"), disabled=True))
        who.add_options([Option(_teacher_line(teacher), id=f"p:{teacher.name}") for teacher in seen.teachers])
        who.add_option(Option(shown("quotes of recipes", "bold"), disabled=True))
        who.add_options([Option(shown(f"  {line(Path(name).name, 40)}"), id=f"r:{name}") for name in seen.recipes])
        known = [option.id for option in who.options]
        who.highlighted = known.index(chosen) if chosen in known else 1

    def _cannot(self, error: LocalDistillError) -> None:
        self.query_one("#title", Static).update(_heading("This could not be read"))
        self.query_one("#known", Facts).show([("✗", error.message), ("next", error.hint)])

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show what is under the cursor."""
        if event.option_id:
            self._chosen = event.option_id
            self.action_show_teacher()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Into the text, to scroll it."""
        self.query_one("#detail").focus()

    def action_show_teacher(self) -> None:
        """All that is known of the chosen one."""
        kind, _, name = self._chosen.partition(":")
        if kind == "p":
            teacher = self._teachers[name]
            self._tell(teacher.title, _known_rows(teacher))
        elif kind == "r":
            self._quote(name)

    def _tell(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        self.query_one("#title", Static).update(_heading(title))
        self.query_one("#known", Facts).show(rows)
        self.query_one("#detail").scroll_home(animate=False)

    # ---- quotes

    def _quote(self, name: str) -> None:
        self._tell(f"Quote of {Path(name).name}", [("", "reading the prompts and what is known of its teachers ...")])
        workspace = self.ui.workspace

        def work() -> FactRows:
            path = recipe_file(name)
            recipe = load_recipe(path)
            rows = plan_rows(make_plan(workspace, recipe, path.resolve().parent))
            can_narrow = any(label == "money" and "--ask" in text for label, text in rows)
            return [*rows, *([("s", "asks a few prompts first and narrows this down")] if can_narrow else [])]

        def done(rows: FactRows) -> None:
            if self._chosen == f"r:{name}":
                self._tell(f"Quote of {Path(name).name}", rows)

        def failed(error: LocalDistillError) -> None:
            if self._chosen == f"r:{name}":
                problems = [("✗", text) for text in error.message.splitlines()]
                self._tell(f"Quote of {Path(name).name}", [*problems, ("next", error.hint)])

        self.ui.jobs.do(work, done, group="quote", failed=failed)

    def action_ask_some(self) -> None:
        """Ask some prompts of the chosen recipe."""
        kind, _, name = self._chosen.partition(":")
        if kind == "r":
            ask_some(self.ui, name, self._asking)
        else:
            self.ui.show_error(UsageError("this asks the teachers of a recipe", "choose one below 'quotes of recipes'"))

    def _asking(self, run: RunFolder, count: int) -> None:
        self._asked_run = run.id
        self._working(f"{line(run.id)} asks {count} prompts; the quote is made anew when they are answered")
        self.ui.jobs.watch_run(run)

    # ---- what is done

    def action_probe(self) -> None:
        """Ask the chosen provider's model, or the teachers of the chosen recipe."""
        kind, _, name = self._chosen.partition(":")
        if kind:
            self.ui.guarded(lambda: self._probing.recipe(name) if kind == "r" else self._probing.provider(name))

    def action_probe_file(self) -> None:
        """Choose a GGUF file and ask it."""
        self._probing.file()

    def action_tune(self) -> None:
        """Choose a GGUF file and measure it."""
        self._probing.tune()

    def action_stop_probe(self) -> None:
        """Let the probe end at its next safe point."""
        self._probing.stop()

    def _working(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#work").display = bool(text)
            self.query_one("#work", Static).update(shown(text, "$primary"))

    @property
    def _key_name(self) -> str:
        """The chosen provider, when it wants a key."""
        kind, _, name = self._chosen.partition(":")
        return name if kind == "p" and provider(name).api_key_env else ""

    def action_set_key(self) -> None:
        """Type a key where nobody sees it."""
        keys.set_key(self.ui, self._key_name, self.action_look)

    def action_list_keys(self) -> None:
        """Names, hosts, origins."""
        keys.show_keys(self.ui)

    def action_forget_key(self) -> None:
        """Forget what is kept for a name."""
        keys.remove_key(self.ui, self._key_name, self.action_look)

    def action_allow_key(self) -> None:
        """Approve a variable for a host."""
        keys.allow_host(self.ui, self.action_look)

    # ---- money

    def show(self, state: AppState) -> None:
        """The money of the followed run; a quote is made anew when its sample is answered."""
        view = state.watched
        self.query_one(BudgetLine).show(view)
        if view is not None and view.run_id == self._asked_run and not view.is_alive:
            self._asked_run = ""
            self._working("")
            self.action_show_teacher()

    def action_raise_cap(self) -> None:
        """A new cap for the followed run, which then goes on."""
        view = self.ui.state.watched
        if view is None:
            self.ui.show_error(UsageError("no run is followed", "choose one on the screen Runs"))
            return
        budget = self.query_one(BudgetLine).budget
        raise_cap(self.ui, view.run_id, budget.cap_usd if budget else None, budget.problem if budget else "")


def _heading(text: str) -> Content:
    return shown(line(text), "bold")


def _teacher_line(teacher: KnownTeacher) -> Content:
    mark, style = KEY_MARKS.get(teacher.key, ("✓", "$success"))
    probed = "  probed" if teacher.last_probe else ""
    return joined(shown(f"{mark} ", style), shown(f"{line(teacher.name, 20):<13}"),
                  shown(f" {_key_word(teacher.key)}{probed}", DIM))


def _key_word(key: str) -> str:
    words = {"missing": "no key", "not needed": "keyless", "optional": "optional", "kept back": "kept back"}
    return words.get(key, line(key, 20))


def _known_rows(teacher: KnownTeacher) -> FactRows:
    rows: FactRows = [("", "the last probe")]
    if teacher.last_probe is None:
        rows.append(("probed", "never: p asks it a few small questions"))
    else:
        rows += findings_of(teacher.last_probe)
    return [*rows, ("", "what its documents say"), *facts_of(provider(teacher.name))]
