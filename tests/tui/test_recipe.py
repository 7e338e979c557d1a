"""Recipe: copy, fill in, problems at their fields, save, conflict, unsaved edits, plan, run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Select, Static

from localdistill import RecipeDraft, new_recipe
from localdistill.graders import GRADERS
from tests.helpers import REPO
from tests.tui.driving import piloted, until
from tests.tui.garden import text_of
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tests.tui.snapshots import calm
from tui.app import LocalDistillApp
from tui.screens.recipe import RecipePage
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, ErrorDialog, ReportDialog
from tui.widgets.form import ValueRow
from tui.widgets.text_dialog import TextDialog
from tui.widgets.toml_pane import TomlPane, TomlText


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return new_recipe(tmp_path / "mine.toml", "pantry")


def page(app: LocalDistillApp) -> RecipePage:
    assert isinstance(app.screen, RecipePage)
    return app.screen


def row(app: LocalDistillApp, key: str) -> ValueRow:
    """The row of a field."""
    return next(found for found in app.screen.query(ValueRow) if found.field.key == key)


def problem(app: LocalDistillApp, key: str) -> str:
    """What is said below a field."""
    return str(row(app, key).query_one(".problem").content)  # type: ignore[attr-defined]


async def edited(pilot: object, app: LocalDistillApp, section: str = "") -> None:
    """The first recipe of the folder is open, at this section."""
    await until(pilot, lambda: app.screen.query("#recipe-list") and "mine.toml" in text_of(app, "#recipe-list"))  # type: ignore[arg-type]
    await pilot.press("enter")  # type: ignore[attr-defined]
    await until(pilot, lambda: page(app)._sections and "✓ valid" in text_of(app, "#state"))  # type: ignore[arg-type]
    if section:
        listing = app.screen.query_one("#sections", OptionList)
        listing.highlighted = [s.key for s in page(app)._sections].index(section)
        await until(pilot, lambda: any(r.field.key.startswith(f"{section}.") for r in app.screen.query(ValueRow)))  # type: ignore[arg-type]


@piloted
async def test_a_shipped_recipe_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "pantry" in text_of(app, "#recipe-list"))
        listing = app.screen.query_one("#recipe-list", OptionList)
        listing.highlighted = next(i for i, o in enumerate(listing.options) if str(o.id).endswith("pantry.toml"))
        await until(pilot, lambda: "The pantry world" in text_of(app, "#preview-text"))
        await pilot.press("enter")
        assert isinstance(app.screen, TextDialog)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and "mine.toml" in text_of(app, "#state"))
        assert (tmp_path / "mine.toml").read_text() == (REPO / "recipes/pantry.toml").read_text()


@piloted
async def test_what_is_probably_not_meant_is_a_warning_at_its_field_and_hinders_nothing(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(140, 45)) as pilot:
        await edited(pilot, app, "collect")
        row(app, "collect.samples").query_one(Input).focus()
        await pilot.press("4")
        await until(pilot, lambda: "✓ valid   ! 1 warning" in text_of(app, "#state"))
        await until(pilot, lambda: problem(app, "collect.temperature").startswith("! samples = 4 asks for the same"))
        assert "✗" not in text_of(app, "#sections")
        row(app, "collect.temperature").query_one(Input).focus()
        await pilot.press(*"0.7")
        await until(pilot, lambda: "warning" not in text_of(app, "#state") and "✓ valid" in text_of(app, "#state"))
        assert not row(app, "collect.temperature").has_class("doubtful")
        await pilot.press("ctrl+k")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "fine; stages" in screen_text(app))


@piloted
async def test_typing_in_the_form_shows_in_the_text_with_problems_at_their_fields(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(140, 45)) as pilot:
        await edited(pilot, app, "collect")
        box = row(app, "collect.samples").query_one(Input)
        box.focus()
        await pilot.press(*"r1e2")
        assert isinstance(app.screen, RecipePage), "letters and digits that are typed switch no screen"
        assert box.value == "r1e2"
        await until(pilot, lambda: "integer" in problem(app, "collect.samples"))
        assert "1 problem" in text_of(app, "#state") and "collect ✗ 1" in text_of(app, "#sections")
        await pilot.press("backspace", "backspace", "backspace", "backspace", "3")
        await until(pilot, lambda: problem(app, "collect.samples") == "✗ " and "✓ valid" in text_of(app, "#state"))
        assert "samples = 3" in app.screen.query_one(TomlText).text
        assert "not saved" in text_of(app, "#state") and "samples" not in mine.read_text()
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "samples = 3" in mine.read_text())
        assert "# of 3,300; more prompts" in mine.read_text(), "comments stay"
        await until(pilot, lambda: "not saved" not in text_of(app, "#state"))
        await pilot.press("backspace")
        await until(pilot, lambda: "samples" not in app.screen.query_one(TomlText).text)


@piloted
async def test_typing_in_the_text_shows_in_the_form(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app)
        await pilot.press("ctrl+t")
        area = app.screen.query_one(TomlText)
        await until(pilot, lambda: area.has_focus)
        area.move_cursor(area.document.end)
        await pilot.press("enter", *"[colect]", "enter", *"x=1", "enter")
        await until(pilot, lambda: "colect: unknown key; did you mean 'collect'?" in text_of(app, "#state"))
        await pilot.press("ctrl+t")
        await until(pilot, lambda: not area.has_focus)
        assert any(r.field.key == "colect" for r in app.screen.query(ValueRow))
        await pilot.press("ctrl+t")
        await until(pilot, lambda: area.has_focus)
        await pilot.press('"')
        await until(pilot, lambda: "not valid TOML" in text_of(app, "#state"))


@piloted
async def test_what_is_typed_while_the_form_follows_is_never_taken_back(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app)
        await pilot.press("ctrl+t")
        area = app.screen.query_one(TomlText)
        await until(pilot, lambda: area.has_focus)
        area.move_cursor(area.document.end)
        for letter in "\n# a sentence that is typed faster than it is drawn":
            area.insert(letter)
            await asyncio.sleep(0)  # some of the messages about it have come, some have not
        await until(pilot, lambda: area.text.endswith("faster than it is drawn"))
        await calm(pilot)
        assert area.text.endswith("faster than it is drawn")
        assert area.cursor_location == area.document.end


@piloted
async def test_a_member_is_chosen_its_options_follow_and_it_goes_again(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(140, 45)) as pilot:
        await edited(pilot, app, "grade.0")
        await pilot.press("ctrl+n")
        assert isinstance(app.screen, ChoiceDialog)
        await pilot.press(*["down"] * GRADERS.names().index("code"), "enter")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and any(
            r.field.key == "grade.2.least_level" for r in app.screen.query(ValueRow)))
        choice = row(app, "grade.2.use").query_one(Select)
        choice.value = "exact"
        await until(pilot, lambda: any(r.field.key == "grade.2.ignore_case" for r in app.screen.query(ValueRow)))
        app.screen.query_one("#sections").focus()
        await pilot.press("delete")
        assert isinstance(app.screen, ConfirmDialog)
        await pilot.press("y")
        await until(pilot, lambda: "grade 3" not in text_of(app, "#sections"))


@piloted
async def test_a_file_written_elsewhere_is_noticed_and_both_versions_are_kept(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(140, 45)) as pilot:
        await edited(pilot, app, "collect")
        row(app, "collect.samples").query_one(Input).focus()
        await pilot.press("5")
        await until(pilot, lambda: "samples = 5" in app.screen.query_one(TomlText).text)
        mine.write_text("# theirs\n" + (REPO / "recipes/pantry.toml").read_text())
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("escape")
        await pilot.pause()
        assert mine.read_text().startswith("# theirs"), "escape changes nothing"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("enter")
        await until(pilot, lambda: "samples = 5" in mine.read_text())
        assert (mine.parent / "mine.toml.theirs-1").read_text().startswith("# theirs")


@piloted
async def test_edits_survive_a_lost_session(mine: Path) -> None:
    first = LocalDistillApp(mine.parent, start="recipe")
    async with first.run_test(size=(80, 24)) as pilot:
        await edited(pilot, first, "collect")
        row(first, "collect.samples").query_one(Input).focus()
        await pilot.press("6")
        await until(pilot, lambda: list(mine.parent.glob(".mine.toml.unsaved")))
    again = LocalDistillApp(mine.parent, start="recipe")
    async with again.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "mine.toml" in text_of(again, "#recipe-list"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(again.screen, ChoiceDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(again.screen, RecipePage) and "not saved" in text_of(again, "#state"))
        assert page(again)._draft is not None and "samples = 6" in page(again)._draft.text


@piloted
async def test_a_folder_that_cannot_be_written_keeps_the_edits_on_screen(mine: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app, "collect")
        row(app, "collect.samples").query_one(Input).focus()
        await pilot.press("7")

        def refused(path: Path, data: bytes) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "write_bytes", refused)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert "cannot be written" in screen_text(app)
        await pilot.press("escape")
        assert page(app)._draft is not None and page(app)._draft.value("collect.samples") == 7


@piloted
async def test_check_plan_and_run_up_to_a_stage(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(app, "start_recipe", lambda name, settings=(), until="": started.append((name, until)))
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app)
        await pilot.press("ctrl+k")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "fine; stages" in screen_text(app))
        await pilot.press("escape", "ctrl+l")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "calls to teacher" in screen_text(app))
        await pilot.press("escape", "ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: started)
        assert started == [(str(mine), "grade")]


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
@piloted
async def test_hostile_recipes_are_shown_and_steer_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    draft = RecipeDraft(tmp_path / "mine.toml", 'name = "mine"\n[traces.a]\nfiles = ["x.jsonl"]\n')
    draft.set("description", HOSTILE.replace("\ud83d", ""))
    draft.set("traces.a.files", ["x" * 100_000, "\x1b[2J"])
    draft.add("grade", {"use": "\x1b]0;x\x07\u202e[red]"})
    draft.set("\x1b[1mkey", 1)
    draft.save()
    (tmp_path / "broken\x1b[31m.toml").write_bytes(b"\x1b[2J\xff")
    app = LocalDistillApp(tmp_path, start="recipe")
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "mine.toml" in text_of(app, "#recipe-list"))
        assert_harmless(app)
        for _ in range(2):
            await pilot.press("down")
            await pilot.pause()
            assert_harmless(app)
        page(app).open(tmp_path / "mine.toml")
        await until(pilot, lambda: "problem" in text_of(app, "#state"))
        assert_harmless(app)
        listing = app.screen.query_one("#sections", OptionList)
        for place, section in enumerate(page(app)._sections):
            if section.is_present:
                listing.highlighted = place
                await pilot.pause()
                assert_harmless(app)
        assert page(app)._draft is not None and page(app)._draft.text == draft.text, "looking changes nothing"
        assert app.screen.query_one(TomlPane).query_one("#raw").is_attached
    assert not os.path.exists(tmp_path / ".mine.toml.unsaved")


@piloted
async def test_a_recipe_of_an_older_shape_is_offered_todays_and_nothing_is_saved_unasked(tmp_path: Path) -> None:
    old = 'name = "mine"\n[traces]\nfiles = ["x.jsonl"]\n[[select.filter]]\nuse = "verified"  # all of them\n'
    (tmp_path / "mine.toml").write_text(old)
    app = LocalDistillApp(tmp_path, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query("#recipe-list") and "mine.toml" in text_of(app, "#recipe-list"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog) and "older shape" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and "not saved" in text_of(app, "#state"))
        assert {"traces.imported", "filter.0"} <= {section.key for section in page(app)._sections}
        draft = page(app)._draft
        assert draft is not None and "# all of them" in draft.text and (tmp_path / "mine.toml").read_text() == old


@piloted
async def test_a_set_of_traces_gets_a_name_and_then_its_fields(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(140, 45)) as pilot:
        await edited(pilot, app)
        listing = app.screen.query_one("#sections", OptionList)
        listing.highlighted = [s.key for s in page(app)._sections].index("traces")
        await pilot.press("ctrl+n")
        assert isinstance(app.screen, ChoiceDialog)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        field = app.screen.query_one(Input)
        field.value = "summary"
        await pilot.press("enter")
        await until(pilot, lambda: "there is a set 'summary' already" in screen_text(app))
        field.value = "concise"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RecipePage) and any(
            r.field.key == "traces.concise.suffix" for r in app.screen.query(ValueRow)))
        row(app, "traces.concise.ask").query_one(Input).value = "teachr"
        await until(pilot, lambda: "did you mean 'teacher'" in problem(app, "traces.concise.ask"))


@piloted
async def test_switching_twice_in_a_hurry_ends_where_it_began(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app)
        page, area = app.screen, app.screen.query_one(TomlText)
        for times, in_text in ((1, True), (2, True), (3, False), (2, False)):
            for _ in range(times):
                page.action_switch_text()  # type: ignore[attr-defined]
            await until(pilot, lambda wanted=in_text: area.has_focus is wanted)  # type: ignore[misc]
            assert page.query_one("#panes").has_class("-text") is in_text


@piloted
async def test_a_problem_that_is_known_while_its_row_is_being_built_is_shown(mine: Path) -> None:
    app = LocalDistillApp(mine.parent, start="recipe")
    async with app.run_test(size=(80, 24)) as pilot:
        await edited(pilot, app, "student")
        early = ValueRow(next(iter(app.screen.query(ValueRow))).field)
        early.problem("it cannot be that")
        await app.screen.query_one("#rows").mount(early)
        await until(pilot, lambda: "✗ it cannot be that" in str(early.query_one(".problem", Static).content))
        assert early.query_one(".problem").display and early.has_class("wrong")
