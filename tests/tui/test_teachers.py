"""Teachers: what is known, keys that never show, quotes, asking some first, probes and caps with their questions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input, OptionList

import tui.flows.probing
from localdistill import (
    RunFolder,
    Workspace,
    budget_of,
    list_keys,
    list_runs,
    parse_recipe,
    shipped_path,
    start,
    wait,
)
from tests.helpers import counting_server, write_questions
from tests.tui.driving import piloted, until
from tests.tui.garden import text_of
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.flows.probing import number
from tui.screens.teachers import TeachersPage
from tui.widgets.dialogs import ConfirmDialog, ErrorDialog, ReportDialog
from tui.widgets.facts import Facts
from tui.widgets.text_dialog import PathDialog, TextDialog

CANARY = "sk-canary-9d11"


pytestmark = pytest.mark.usefixtures("own_config")


def priced_recipe(root: Path, url: str, extra: str = "") -> None:
    questions = write_questions(root / "q.jsonl", 30)
    (root / "mine.toml").write_text(f"""
name = "mine"
max_usd = 1.0
[prompts]
files = ["{questions}"]
[teacher]
use = "openai_compatible"
base_url = "{url}"
model = "counter"
usd_per_million_input = 1.0
usd_per_million_output = 2.0
{extra}
""")


def facts(app: LocalDistillApp) -> str:
    """What stands on the right."""
    return "\n".join(f"{label}: {text}" for label, text in app.screen.query_one("#known", Facts).rows)


def choose(app: LocalDistillApp, wanted: str) -> None:
    """Put the cursor on a provider or a recipe."""
    who = app.screen.query_one("#who", OptionList)
    who.highlighted = next(i for i, option in enumerate(who.options) if str(option.id).endswith(wanted))


async def stands(pilot: object, app: LocalDistillApp) -> None:
    await until(pilot, lambda: isinstance(app.screen, TeachersPage) and "deepseek" in text_of(app, "#who"))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 45)])
@piloted
async def test_every_provider_is_listed_with_its_key_and_its_facts(tmp_path: Path, size: tuple[int, int]) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=size) as pilot:
        await stands(pilot, app)
        choose(app, "p:deepseek")
        await until(pilot, lambda: "DEEPSEEK_API_KEY (missing)" in facts(app))
        assert "never: p asks" in facts(app)


@piloted
async def test_a_key_is_typed_masked_kept_listed_and_forgotten(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        choose(app, "p:deepseek")
        await pilot.pause()
        await pilot.press("k", "enter", *CANARY)
        assert isinstance(app.screen, TextDialog), "without a key nothing is handed over"
        box = app.screen.query_one("#field-key", Input)
        assert box.has_focus and box.value == CANARY and CANARY not in screen_text(app)
        await pilot.press("enter")
        assert box.value == ""
        await until(pilot, lambda: [key.name for key in list_keys()] == ["DEEPSEEK_API_KEY"])
        await until(pilot, lambda: "(file)" in facts(app))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog))
        assert "DEEPSEEK_API_KEY" in screen_text(app) and CANARY not in screen_text(app)
        await pilot.press("escape", "f", "enter", "enter")
        assert isinstance(app.screen, ConfirmDialog), "nothing is forgotten unasked"
        assert list_keys()
        await pilot.press("y")
        await until(pilot, lambda: not list_keys())


@piloted
async def test_a_name_in_the_wrong_field_is_refused_in_place_and_not_repeated(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        await pilot.press("k", *"x", "shift+tab", "shift+tab", "home", "shift+end", *"my-wrong", *["enter"] * 3)
        assert isinstance(app.screen, TextDialog)
        await until(pilot, lambda: "neither a provider" in text_of(app, "#problem"))
        assert "my-wrong" not in text_of(app, "#problem") and not list_keys()
        assert app.screen.query_one("#field-key", Input).has_focus, "what is pasted next cannot be read either"


def paste(app: LocalDistillApp, text: str) -> None:
    """What a terminal sends when somebody pastes."""
    app.post_message(events.Paste(text))


@pytest.mark.parametrize("key", [CANARY, "A1b2C3d4E5f6G7h8I9j0K1l2", f"export PLUM_KEY={CANARY}", "plainsecret99"])
@piloted
async def test_a_key_pasted_where_it_could_be_read_goes_where_it_cannot(tmp_path: Path, key: str) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        for field in ("name", "host"):
            await pilot.press("k")
            await until(pilot, lambda: isinstance(app.screen, TextDialog))
            before = {box.id: box.value for box in app.screen.query(Input)}
            app.screen.query_one(f"#field-{field}", Input).focus()
            await pilot.pause()
            paste(app, f"{key}\n")
            masked = app.screen.query_one("#field-key", Input)
            await until(pilot, lambda masked=masked: masked.value)
            assert masked.value == key and masked.has_focus and key not in screen_text(app)
            assert {box.id: box.value for box in app.screen.query(Input) if box is not masked} == {
                name: value for name, value in before.items() if name != "field-key"}
            await pilot.press("escape")


@piloted
async def test_a_key_pasted_for_its_variable_is_not_taken_at_all(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        for opens, field in (("a", "#field-variable"), ("p", "#field-key_env")):
            await pilot.press(opens)
            await until(pilot, lambda: isinstance(app.screen, TextDialog))
            box = app.screen.query_one(field, Input)
            box.focus()
            await pilot.pause()
            for text in (CANARY, "secret of mine"):
                paste(app, text)
                await pilot.pause()
            await pilot.press(*CANARY)
            assert CANARY not in box.value and CANARY not in screen_text(app)
            box.clear()
            paste(app, "PLUM_API_KEY\n")
            await until(pilot, lambda box=box: box.value == "PLUM_API_KEY")
            await pilot.press("escape")


@piloted
async def test_a_quote_narrows_down_after_some_prompts_were_asked(tmp_path: Path) -> None:
    with counting_server() as server:
        priced_recipe(tmp_path, server.url)
        app = LocalDistillApp(tmp_path, start="teachers")
        async with app.run_test(size=(100, 30)) as pilot:
            await stands(pilot, app)
            choose(app, "mine.toml")
            await until(pilot, lambda: "30 x 1 = 30 calls" in facts(app))
            assert "at most $" in facts(app) and "cap: $1.00" in facts(app)
            await pilot.press("s", "enter")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog) and app.focused is not None)
            assert "money: at most $" in screen_text(app) and not server.asked
            await pilot.press("y")
            await until(pilot, lambda: isinstance(app.screen, TeachersPage))
            await until(pilot, lambda: "from 5 replies" in facts(app), 60)
            assert sum(server.asked.values()) == 5 and "5 answers are stored" in facts(app)
            await until(pilot, lambda: "mine-1: $0.0001 spent" in text_of(app, "#budget"))


@piloted
async def test_a_recipe_with_problems_says_them_where_its_quote_would_stand(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\n[collect]\nsampels = 3\n[teacher]\nuse = "{"x" * 50}"\n')
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        choose(app, "mine.toml")
        await until(pilot, lambda: "did you mean 'samples'?" in facts(app))
        assert isinstance(app.screen, TeachersPage)


@piloted
async def test_a_probe_says_first_what_it_costs_and_keeps_what_it_found(tmp_path: Path) -> None:
    with counting_server() as server:
        priced_recipe(tmp_path, server.url, "retries = 0")
        app = LocalDistillApp(tmp_path, start="teachers")
        async with app.run_test(size=(80, 24)) as pilot:
            await stands(pilot, app)
            choose(app, "mine.toml")
            await until(pilot, lambda: "calls" in facts(app))
            await pilot.press("p")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert "costs at most about $" in screen_text(app) and not server.asked
            await pilot.press("n")
            await pilot.pause()
            assert isinstance(app.screen, TeachersPage) and not server.asked


@piloted
async def test_a_provider_is_probed_only_after_its_key_and_model_are_known(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        choose(app, "p:mistral")
        await pilot.pause()
        await pilot.press("p")
        assert isinstance(app.screen, TextDialog)
        app.screen.query_one("#field-model", Input).value = ""
        await pilot.press("enter", "enter", "enter", "enter")
        await until(pilot, lambda: "which model?" in text_of(app, "#problem"))
        app.screen.query_one("#field-model", Input).value = "m"
        await pilot.press("enter", "enter", "enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog | ErrorDialog))


@piloted
async def test_raising_a_cap_asks_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting_server() as server:
        server.usage = {"prompt_tokens": 1000, "completion_tokens": 9}
        priced_recipe(tmp_path, server.url, "concurrency = 1")
        text = (tmp_path / "mine.toml").read_text().replace("max_usd = 1.0", "max_usd = 0.006")
        (tmp_path / "mine.toml").write_text(text)
        app = LocalDistillApp(tmp_path, start="teachers")
        async with app.run_test(size=(80, 24)) as pilot:
            await stands(pilot, app)
            app.start_recipe(str(tmp_path / "mine.toml"))
            await until(pilot, lambda: list_runs(Workspace(tmp_path).runs), 60)
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "paused", 60)
            await pilot.press("2")
            await until(pilot, lambda: "paused at its cap: c raises it" in text_of(app, "#budget"))
            await pilot.press("c")
            app.screen.query_one("#field-cap", Input).value = "2"
            await pilot.press("enter")
            assert isinstance(app.screen, ConfirmDialog) and "$2.00 in all" in screen_text(app)
            await pilot.press("y")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished", 60)
            assert RunFolder.open(Workspace(tmp_path).runs, "last").request()["max_usd"] == 2.0


@piloted
async def test_a_run_that_lost_its_ledger_is_asked_what_it_spent(tmp_path: Path) -> None:
    with counting_server() as server:
        server.usage = {"prompt_tokens": 1000, "completion_tokens": 9}
        priced_recipe(tmp_path, server.url, "concurrency = 1")
        text = (tmp_path / "mine.toml").read_text().replace("max_usd = 1.0", "max_usd = 0.006")
        recipe, workspace = parse_recipe(text), Workspace(tmp_path)
        run = start(workspace, recipe, text, tmp_path)
        assert wait(run).state == "paused"
        run.calls.unlink()
        app = LocalDistillApp(tmp_path, start="teachers")
        async with app.run_test(size=(120, 30)) as pilot:
            await stands(pilot, app)
            app.follow_run(run)
            await until(pilot, lambda: "for nobody knows" in text_of(app, "#budget"))
            assert "it is gone" in text_of(app, "#budget")
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, TextDialog))
            app.screen.query_one("#field-cap", Input).value = "2"
            app.screen.query_one("#field-spent", Input).value = "0.5"
            await pilot.press("enter", "enter")
            assert isinstance(app.screen, ConfirmDialog) and "spent $0.50, as you say" in screen_text(app)
            await pilot.press("y")
            await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished", 60)
    assert budget_of(run).problem == "" and budget_of(run).spent_usd > 0.5


@piloted
async def test_a_key_that_comes_slowly_goes_on_where_it_was_hidden(tmp_path: Path) -> None:
    secret = "sk-" + "plum4711" * 3
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(110, 36)) as pilot:
        await stands(pilot, app)
        await pilot.press("k")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        boxes = list(app.screen.query(Input))
        masked = next(box for box in boxes if box.password)
        app.screen.set_focus(boxes[0])
        for letter in secret:
            await pilot.press(letter)
            await pilot.pause(0.02)
        assert masked.value == secret, "the focus that moved in the middle selects nothing"
        assert app.screen.focused is masked and not any(box.value for box in boxes if box is not masked)


@piloted
async def test_the_rest_of_a_key_that_was_on_its_way_follows_its_beginning(tmp_path: Path) -> None:
    secret = "sk-" + "plum4711" * 3
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(110, 36)) as pilot:
        await stands(pilot, app)
        await pilot.press("k")
        await until(pilot, lambda: isinstance(app.screen, TextDialog))
        boxes = list(app.screen.query(Input))
        masked = next(box for box in boxes if box.password)
        app.screen.set_focus(boxes[0])
        await pilot.pause()
        for letter in secret:
            boxes[0].post_message(slow := events.Key(letter, letter))
            slow.time += 60.0 * len(masked.value)
            await asyncio.sleep(0)
        await until(pilot, lambda: len(masked.value) >= len(secret))
        assert masked.value == secret and not any(box.value for box in boxes if box is not masked)


@piloted
async def test_hostile_facts_are_harmless(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        page = app.screen
        assert isinstance(page, TeachersPage)
        page._tell(HOSTILE, [(HOSTILE, HOSTILE), ("", HOSTILE), ("long", "x" * 100_000), (f"! {HOSTILE}", "\x1b[2J")])
        page._working(HOSTILE)
        app.push_screen(ReportDialog(HOSTILE, [(HOSTILE, HOSTILE)]))
        await pilot.pause()
        assert_harmless(app)
        app.pop_screen()
        await pilot.pause()
        assert_harmless(app)


def test_numbers_that_are_none_are_refused() -> None:
    assert number("2.5", "US dollars") == 2.5
    for text in ("", "five", "-1", "nan", "inf", "1e99"):
        with pytest.raises(Exception, match="no number"):
            number(text, "US dollars")


def test_the_cap_of_a_probe_is_small() -> None:
    assert tui.flows.probing.CAP_USD <= 0.05


@piloted
async def test_a_model_on_this_machine_is_probed_for_nothing_and_its_report_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    model = shipped_path("pantry/teacher.gguf")
    app = LocalDistillApp(tmp_path, start="teachers")
    async with app.run_test(size=(80, 24)) as pilot:
        await stands(pilot, app)
        await pilot.press("g")
        assert isinstance(app.screen, PathDialog)
        app.screen.query_one("#path", Input).value = str(model)
        await pilot.press("enter")
        await until(pilot, lambda: "asking teacher.gguf" in text_of(app, "#work"))
        await until(pilot, lambda: isinstance(app.screen, ReportDialog), 60)
        rows = dict(app.screen.query_one("#report", Facts).rows)
        assert rows["probed"] and rows["arithmetic"] and assert_harmless(app)
        await pilot.press("escape")
        assert not app.screen.query_one("#work").display
