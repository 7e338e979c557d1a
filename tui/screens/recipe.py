"""Recipe: what ships and what is in this folder, and a form over one file with its text beside it. The file on disk is
changed only by saving; edits survive a lost connection, and what somebody else wrote meanwhile is never overwritten
unseen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import ContentSwitcher, OptionList, Static

from localdistill import (
    LocalDistillError,
    Problem,
    RecipeDraft,
    UsageError,
    key_part,
    older_shape,
    problems_before_run,
    problems_in,
    recipe_schema,
)
from tui.commands import Command
from tui.flows import recipes
from tui.recipe_fields import RecipeSection, sections_of, value_of
from tui.screens.base import Page
from tui.text import joined, line, shown
from tui.ui import Wanted
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, Way
from tui.widgets.facts import MUTED
from tui.widgets.form import PROBLEM_MARKS, Form, ValueRow
from tui.widgets.recipe_picker import RecipePicker
from tui.widgets.sections import Sections
from tui.widgets.text_dialog import Field, TextDialog
from tui.widgets.toml_pane import TomlPane, line_of

Opened = tuple[RecipeDraft, Mapping[str, Any], str | None]


class RecipePage(Page):
    """Recipes: choose, copy, change, check, plan, run."""

    TITLE = "Recipe"
    HELP = ("Every value of a recipe with its help, checked while you type, and the TOML beside it. Shipped recipes "
            "are copied before they are changed. Nothing runs and nothing is spent before you say so.")
    ACTIONS = (
        Command("recipe.new", "new: recipe from this one", "recipe new", "screen.new", "n",
                "Copies the chosen recipe to a file of yours."),
        Command("recipe.save", "save: recipe", "recipe set", "screen.save", "ctrl+s",
                "Comments and order of the file stay."),
        Command("recipe.check", "check: recipe", "recipe check", "screen.check", "ctrl+k", "Every problem at once."),
        Command("recipe.plan", "plan: recipe", "plan", "screen.plan", "ctrl+l",
                "Calls, tokens, money, memory, disk, before anything is spent."),
        Command("recipe.run", "run: recipe", "run", "screen.run", "ctrl+r", "Whole, or up to a stage."),
        Command("recipe.fetch", "fetch: models of this recipe", "prefetch", "screen.fetch", "",
                "Every model of the hub that it names, in one revision; then each stage works with the network off.",
                in_footer=False),
        Command("recipe.add", "add: table", "recipe set", "screen.add_here", "ctrl+n", "One more of the chosen list.",
                in_footer=False),
        Command("recipe.upgrade", "upgrade: older shape", "recipe upgrade", "screen.upgrade", "",
                "Brings a recipe of an older shape into today's.", in_footer=False),
        Command("recipe.remove", "remove: table", "recipe set", "screen.remove_here", "delete",
                "Takes the chosen section out.", in_footer=False),
        Command("recipe.text", "switch: form and text", "recipe check", "screen.switch_text", "ctrl+t",
                "Where there is no room for both, the other one is shown."),
        Command("recipe.leave", "leave: recipe", "recipe list", "screen.leave", "escape", in_footer=False),
    )
    CSS_PATH = "recipe.tcss"
    AUTO_FOCUS = "#recipe-list"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]

    def __init__(self) -> None:
        super().__init__()
        self._schema: Mapping[str, Any] = {}
        self._draft: RecipeDraft | None = None
        self._sections: list[RecipeSection] = []
        self._at = ""
        self._problems: list[Problem] = []
        self._elsewhere = False
        self._wanted: Path | None = None
        """The file that somebody came for."""
        self._in_text = False
        """Of form and text, the text is worked in."""

    def body(self) -> Iterable[Widget]:
        """The picker, and the editor in its place once a recipe is open."""
        with ContentSwitcher(initial="picker", id="modes"):
            yield RecipePicker(id="picker")
            with Vertical(id="editor"):
                yield Static(id="state")
                with Horizontal(id="panes"):
                    yield Sections(id="sections", markup=False)
                    yield Form(id="form")
                    yield TomlPane(id="text-pane")

    def on_screen_resume(self) -> None:
        """Look at the folder again, and whether the open file is still what was read."""
        super().on_screen_resume()
        if self._wanted is not None:
            self.open(self._wanted)
            self._wanted = None
        elif self._draft is None:
            self.call_after_refresh(self.query_one(RecipePicker).look)
        else:
            self._check()

    def came(self, what: Wanted) -> None:
        """Open the recipe that somebody came for."""
        self._wanted = what.get("file")

    @property
    def _path(self) -> Path | None:
        """The recipe that is open, else the one under the cursor."""
        return self.query_one(RecipePicker).chosen if self._draft is None else self._draft.path

    @property
    def _text(self) -> str | None:
        """The text that is being edited."""
        return None if self._draft is None else self._draft.text

    # ---- opening and leaving

    def on_recipe_picker_picked(self, event: RecipePicker.Picked) -> None:
        """Open it; what ships is copied first."""
        if event.is_shipped:
            self.action_new()
        else:
            self.open(event.path)

    def open(self, path: Path) -> None:
        """Read a file and show it in the form."""
        schema = self._schema

        def work() -> Opened:
            draft = RecipeDraft.open(path)
            return draft, schema or recipe_schema(), draft.left_over()

        self.ui.jobs.do(work, self._opened, group="open")

    def _opened(self, result: Opened) -> None:
        if self._draft is not None:
            self._draft.keep()
        draft, self._schema, left = result
        self._draft, self._at, self._problems = draft, "", []
        self.query_one(ContentSwitcher).current = "editor"
        self._changed()
        self.query_one("#sections").focus()
        if left is not None:
            recipes.offer_left_over(self.ui, draft, left, self._changed)
        elif older_shape(draft.text):
            recipes.offer_upgrade(self.ui, draft, self._changed)

    def action_upgrade(self) -> None:
        """Offer today's shape for a recipe of an older one."""
        if self._draft is None:
            return
        if older_shape(self._draft.text):
            recipes.offer_upgrade(self.ui, self._draft, self._changed)
        else:
            self.ui.notify("it has today's shape already")

    def action_leave(self) -> None:
        """Back to the picker; edits that are not saved are kept and offered again."""
        if self._draft is not None:
            self._draft.keep()
            self._draft = None
            self.query_one(ContentSwitcher).current = "picker"
            self.query_one("#recipe-list").focus()
            self.query_one(RecipePicker).look()

    # ---- drawing

    def _changed(self) -> None:
        """The draft changed: derive the sections, redraw what differs, check in the background."""
        if self._draft is None:
            return
        self._sections = sections_of(self._schema, self._draft.data)
        if self._at not in {section.key for section in self._sections}:
            self._at = ""
        self._draw_sections()
        self.query_one(TomlPane).show(self._draft.text)
        self._draw_form()
        self._check()

    def _draw_form(self) -> None:
        here = next(section for section in self._sections if section.key == self._at)
        about = f"{here.help}\nenter: one more of these" if here.addable else here.help
        self.call_next(self.query_one(Form).show, here.fields, about)
        self.call_next(self._mark)

    def _draw_sections(self) -> None:
        self.query_one(Sections).show(self._sections, _of_kind("error", self._problems), self._at)

    def _mark(self) -> None:
        wrong, doubtful = (
            {problem.key: problem.text for problem in reversed(_of_kind(kind, self._problems))}
            for kind in ("error", "warning"))
        self.query_one(Form).problems(wrong, doubtful)

    def _go_to(self, key: str) -> None:
        if key != self._at and self._draft is not None:
            self._at = key
            self._draw_form()
            self._draw_sections()
            row = line_of(self._draft.text, key)
            if row is not None:
                self.query_one(TomlPane).show_line(row)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another section of the form."""
        if event.option_list.has_focus and event.option_index < len(self._sections):
            self._go_to(self._sections[event.option_index].key)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Into a section, or one more of a list."""
        section = self._sections[event.option_index]
        if section.addable:
            self._choose_member(section)
        else:
            self._go_to(section.key)
            self.call_after_refresh(self.query_one(Form).focus_first)

    # ---- editing

    def _edited(self, text: str) -> None:
        if self._draft is not None:
            self._draft.text = text
            self._changed()

    def on_toml_pane_text_changed(self) -> None:
        """What is typed in the text shows in the form. The text as it is now: an older one would be drawn over what
        was typed since."""
        self._edited(self.query_one(TomlPane).text)

    def on_value_row_value_changed(self, event: ValueRow.ValueChanged) -> None:
        """What is typed in the form shows in the text."""
        draft, key = self._draft, event.field.key
        value, before = value_of(event.text, event.field.kind), draft.value(key) if draft is not None else None
        if draft is None or (value == before and type(value) is type(before)):
            return
        try:
            if value is None:
                draft.remove(key)
            else:
                draft.set(key, value)
        except LocalDistillError as error:
            self.query_one(Form).problems({key: error.message})
            return
        self._changed()

    def action_add_here(self) -> None:
        """One more of the list that the chosen section is in."""
        near = {self._at, re.sub(r"\.\d+$", "", self._at)}
        place = next((s for s in self._sections if s.addable and s.key in near), None)
        if self._draft is not None and place is None:
            self.ui.show_error(UsageError("the chosen section is no list", "choose one that begins with +"))
        elif place is not None:
            self._choose_member(place)

    def _choose_member(self, place: RecipeSection) -> None:
        ways = [Way(name, partial(self._add, place, name), help_text) for name, help_text in place.addable]
        self.ui.push_screen(ChoiceDialog(f"Add: {line(place.title.removeprefix('+ '))}", place.help, ways))

    def _add(self, place: RecipeSection, member: str) -> None:
        draft = self._draft
        if draft is None:
            return
        if place.is_by_name:
            self._name_it(draft, place, member)
            return
        before = draft.value(place.key)
        number = len(before) if isinstance(before, list) else int(before is not None)
        self.ui.guarded(lambda: self._put(draft, place.key, place.empty(member), "", str(number)))

    def _name_it(self, draft: RecipeDraft, place: RecipeSection, member: str) -> None:
        def named(typed: Mapping[str, str]) -> None:
            self._put(draft, place.key, place.empty(member), typed["name"], typed["name"])

        wish = draft.free_name(place.key, member if place.picked_by else "mine")
        what = line(place.title.removeprefix("+ "))
        self.ui.push_screen(TextDialog(f"Its name in [{what}]", [Field("name", "name", wish, is_needed=True)], named))

    def _put(self, draft: RecipeDraft, key: str, values: Mapping[str, Any], name: str, last: str) -> None:
        """Add a table and go to it."""
        draft.add(key, values, name)
        self._at = f"{key}.{key_part(last)}"
        self._changed()
        self.call_after_refresh(self.query_one(Form).focus_first)

    def action_remove_here(self) -> None:
        """Take the chosen section out of the draft."""
        draft = self._draft
        here = next((section for section in self._sections if section.key == self._at), None)
        if draft is None or here is None or not here.key or here.addable or not here.is_present:
            return

        def work() -> None:
            draft.remove(here.key)
            self._changed()

        self.ui.push_screen(ConfirmDialog(f"Take {line(here.title)} out of the recipe?", lambda: self.ui.guarded(work)))

    def action_switch_text(self) -> None:
        """Between form and text."""
        if self._draft is None:
            return
        panes, pane = self.query_one("#panes"), self.query_one(TomlPane)
        self._in_text = to_text = not self._in_text
        panes.set_class(to_text, "-text")
        self._draw_state()
        if to_text:
            pane.enter()
        else:
            self.query_one("#sections").focus()

    def on_descendant_focus(self) -> None:
        """Somebody went there on another way; a focus that was only asked for comes a moment later."""
        self._in_text = self.query_one(TomlPane).has_focus_within

    # ---- checking and doing

    def _check(self) -> None:
        draft = self._draft
        if draft is None:
            return
        text, base = draft.text, draft.path.parent
        # While somebody types, the text alone is read; what lies behind it is looked at when it is opened or saved.
        whole = not draft.is_changed

        def work() -> tuple[list[Problem], bool]:
            draft.keep()
            found = problems_before_run(text, base, self.ui.workspace) if whole else problems_in(text)
            return found, draft.is_changed_elsewhere()

        self.ui.jobs.do(work, self._checked, group="check")

    def _checked(self, result: tuple[list[Problem], bool]) -> None:
        self._problems, self._elsewhere = result
        if self._draft is not None:
            self._draw_state()
            self._draw_sections()
            self._mark()

    def _draw_state(self) -> None:
        """Where the file stands; problems are listed here when no field of the form shows them."""
        if self._draft is not None:
            by_text = self.query_one("#panes").has_class("-text")
            fields = {field.key for section in self._sections for field in section.fields}
            listed = [problem for problem in self._problems if by_text or problem.key not in fields]
            self.query_one("#state", Static).update(_state(self._draft, self._problems, self._elsewhere, listed))

    def action_new(self) -> None:
        """Copy the chosen recipe to a file in the workspace, and open it."""
        if self._path is not None:
            recipes.copy_recipe(self.ui, self._path, self.open)

    def action_save(self) -> None:
        """Write the file, unless somebody else did."""
        if self._draft is not None:
            recipes.save_draft(self.ui, self._draft, self._changed)

    def action_check(self) -> None:
        """Say every problem."""
        if self._path is not None:
            recipes.check_recipe(self.ui, self._path, self._text)

    def action_plan(self) -> None:
        """Say what it will ask, cost and need."""
        if self._path is not None:
            recipes.plan_recipe(self.ui, self._path, self._text)

    def action_fetch(self) -> None:
        """Fetch the models that it names."""
        if self._path is not None:
            recipes.fetch_models(self.ui, self._path, self._text)

    def action_run(self) -> None:
        """Run it, whole or up to a stage; edits are saved first."""
        path = self._path
        if path is not None and self._draft is not None and self._draft.is_changed:
            recipes.save_draft(self.ui, self._draft, self._changed, lambda: recipes.run_recipe(self.ui, path))
        elif path is not None:
            recipes.run_recipe(self.ui, path)


def _of_kind(kind: str, problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.kind == kind]


def _counted(mark: str, word: str, count: int, style: str) -> Content:
    return shown(f"   {mark} {count} {word}{'s' if count > 1 else ''}", style)


def _state(draft: RecipeDraft, problems: Sequence[Problem], elsewhere: bool, listed: Sequence[Problem]) -> Content:
    saved = shown("● not saved", "$warning") if draft.is_changed else shown("saved", MUTED)
    wrong, doubtful = len(_of_kind("error", problems)), len(_of_kind("warning", problems))
    count = _counted(PROBLEM_MARKS["error"], "problem", wrong, "$error") if wrong else shown("   ✓ valid", "$success")
    if doubtful:
        count = joined(count, _counted(PROBLEM_MARKS["warning"], "warning", doubtful, "$warning"))
    moved = shown("   ! changed elsewhere: saving asks what to do", "$warning") if elsewhere else Content("")
    told = [shown(f"\n{PROBLEM_MARKS[p.kind]} {line(f'{p.key}: {p.text}' if p.key else p.text, 200)}",
                  "$error" if p.kind == "error" else "$warning") for p in listed[:3]]
    return joined(shown(f"{line(draft.path.name, 60)}  ", "bold"), saved, count, moved, *told)
