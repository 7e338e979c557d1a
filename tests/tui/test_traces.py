from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from localdistill import Fact, Message, Prompt, Store, Trace, Workspace
from localdistill.core.records import PERSON
from tests.tui.chain import QUESTIONS, doubling, empty, hostile
from tests.tui.driving import piloted, until
from tests.tui.hostile import LONG, assert_harmless
from tui.app import LocalDistillApp
from tui.screens.traces import TracesPage
from tui.widgets.paged_table import PagedTable
from tui.widgets.trace_text import LONGEST_PART, TraceText, verdict


def page(app: LocalDistillApp) -> TracesPage:
    found = app.screen
    assert isinstance(found, TracesPage)
    return found


def table(app: LocalDistillApp) -> PagedTable:
    return app.screen.query_one("#list", PagedTable)


def row_of(app: LocalDistillApp, question: str) -> int:
    """Where the trace of this question stands: replies come in any order."""
    browser = page(app)._browser
    assert browser is not None
    return next(n for n in range(browser.count) if browser.row(n).question == question)  # type: ignore[union-attr]


async def shows(pilot: Pilot[None], app: LocalDistillApp, text: str) -> str:
    """The screen's text once it holds `text`; everything on it was harmless."""
    await until(pilot, lambda: text in assert_harmless(app))
    return assert_harmless(app)


@piloted
async def test_all_traces_are_listed_and_keys_reach_the_last() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        text = await shows(pilot, app, f"{QUESTIONS} traces")
        await shows(pilot, app, "Double 0")
        assert "✗ 0" in text or "✗" in await shows(pilot, app, "✗")
        await pilot.press("end")
        await shows(pilot, app, f"row {QUESTIONS}")
        await shows(pilot, app, f"Double {QUESTIONS - 1}")


@piloted
async def test_a_search_narrows_and_escape_takes_it_back() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("slash", *"double 7", "enter")
        text = await shows(pilot, app, "1 trace ")
        assert "search: double 7" in text
        await shows(pilot, app, "Double 7")
        await pilot.press("escape")
        await shows(pilot, app, f"{QUESTIONS} traces")


@piloted
async def test_a_filter_that_cannot_be_used_says_why_and_a_good_one_filters() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("f")
        app.screen.query_one("#ask", Input).value = "skore = 0"
        await pilot.press("enter")
        text = await shows(pilot, app, "skore")
        await shows(pilot, app, "names a column")
        assert f"{QUESTIONS} traces" in text
        await shows(pilot, app, "Double")
        await pilot.press("f")
        app.screen.query_one("#ask", Input).value = "score = 0"
        await pilot.press("enter")
        text = await shows(pilot, app, "5 traces")
        assert "names a column" not in text


@piloted
async def test_sorting_puts_the_wrong_ones_first() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("s", "s")
        await shows(pilot, app, "order: score")
        await until(pilot, lambda: assert_harmless(app).count("✗ 0") == 5)
        lines = [text for text in assert_harmless(app).splitlines() if "Double" in text]
        assert all("✗ 0" in text for text in lines[:5]) and "✓ 1" in lines[5]


@piloted
async def test_enter_opens_a_trace_with_its_grade_and_lineage_and_escape_closes_it() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "Double 5")
        chosen = table(app).cursor = row_of(app, "Double 5")
        await pilot.press("enter")
        text = await shows(pilot, app, "The answer is 10")
        assert not table(app).display
        assert "▸ thinking" in text and "5 + 5" not in text
        await pilot.press("t")
        await shows(pilot, app, "5 + 5 = 10")
        app.screen.query_one(TraceText).scroll_end(animate=False)
        text = await shows(pilot, app, "selected in doubling")
        assert "exact@3" in text and "trained in  b2:" in text
        await pilot.press("right")
        await until(pilot, lambda: app.state.trace == page(app)._browser.row(chosen + 1).id)  # type: ignore[union-attr]
        await pilot.press("escape")
        await until(pilot, lambda: table(app).display)
        assert table(app).cursor == chosen + 1


@piloted
async def test_on_a_wide_screen_the_trace_stands_beside_the_table_and_follows_the_cursor() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(140, 45)) as pilot:
        await shows(pilot, app, "Double 5")
        table(app).cursor = row_of(app, "Double 7")
        await pilot.press("enter")
        await shows(pilot, app, "The answer is 14.")
        await pilot.press("up" if table(app).cursor else "down")
        await until(pilot, lambda: app.state.trace == page(app)._browser.row(table(app).cursor).id)  # type: ignore[union-attr]
        assert table(app).display and table(app).has_focus
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not table(app).display)
        assert_harmless(app)


@piloted
async def test_y_copies_the_id() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "Double 0")
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard.startswith("b2:"))


@piloted
async def test_the_traces_of_a_selection() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("l", *"doubling", "enter")
        await shows(pilot, app, f"{QUESTIONS - 5} traces")
        await pilot.press("l")
        app.screen.query_one("#ask", Input).value = "dubling"
        await pilot.press("enter")
        await shows(pilot, app, "did you mean 'doubling'")


@piloted
async def test_an_empty_workspace_says_where_traces_come_from_and_stays_empty() -> None:
    app = LocalDistillApp(empty(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "No traces yet")
        await pilot.press("down", "enter", "t", "y", "right", "u", "d", "s")
        await shows(pilot, app, "No traces yet")
    assert not any(empty().glob("*.duckdb"))


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 45)])
def test_hostile_traces_never_steer_the_terminal(size: tuple[int, int]) -> None:
    @piloted
    async def driven() -> None:
        app = LocalDistillApp(hostile(), start="traces")
        async with app.run_test(size=size) as pilot:
            await shows(pilot, app, "8 traces")
            await shows(pilot, app, "␛[31m")
            for row in (0, 6):
                table(app).cursor = row
                await pilot.press("enter")
                await until(pilot, lambda row=row: app.screen.query_one(TraceText).detail is not None
                            and app.state.trace == page(app)._browser.row(row).id)  # type: ignore[union-attr]
                await until(pilot, lambda: app.screen.query_one(TraceText).detail.trace.id == app.state.trace)
                await pilot.press("t", "end", "y")
                assert_harmless(app)
                await pilot.press("t", "escape")
            await pilot.press("slash", *"\u202eright", "enter")
            await shows(pilot, app, "traces")
            assert app.is_running

    driven()


@piloted
async def test_long_texts_are_drawn_in_part_and_m_shows_the_rest() -> None:
    app = LocalDistillApp(hostile(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "8 traces")
        table(app).cursor = 6
        await pilot.press("enter")
        text = app.screen.query_one(TraceText)
        await until(pilot, lambda: text.detail is not None)
        before = text.virtual_size.height
        assert before * 76 < 3 * LONGEST_PART
        await pilot.press("m")
        await until(pilot, lambda: text.virtual_size.height * 78 > 2 * len(LONG))


@piloted
async def test_what_a_trace_became_and_came_from_are_one_key_away() -> None:
    app = LocalDistillApp(hostile(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "8 traces")
        table(app).cursor = 7
        await pilot.press("enter")
        text = app.screen.query_one(TraceText)
        await until(pilot, lambda: text.detail is not None and text.detail.trace.id == "b2:child")
        await pilot.press("u")
        await until(pilot, lambda: text.detail is not None and text.detail.made_of_it)
        assert_harmless(app)
        await pilot.press("d")
        await until(pilot, lambda: text.detail is not None and text.detail.trace.id == "b2:child")


def test_a_verdict_is_readable_without_colour() -> None:
    assert [verdict(score)[0] for score in (None, 0.0, 0.5, 1.0)] == ["-", "✗", "~", "✓"]


@piloted
async def test_a_store_that_a_stranger_damaged_has_its_state_on_the_screen() -> None:
    root = Path(tempfile.mkdtemp(prefix="damaged-"))
    (root / "localdistill.duckdb").write_bytes(b"no database" * 1000)
    app = LocalDistillApp(root, start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "the traces cannot be read")
        text = await shows(pilot, app, "Nothing is lost")
        assert "damaged" in text
        await pilot.press("ctrl+r", "down", "enter", "s")
        await shows(pilot, app, "Nothing is lost")


@piloted
async def test_a_search_that_finds_nothing_leaves_the_keys_working() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("slash", *"qqq", "enter")
        await shows(pilot, app, "Nothing meets this")
        await pilot.press("escape", "5")
        await until(pilot, lambda: getattr(app.screen, "TITLE", "") == "Select")
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, TracesPage))
        assert not isinstance(app.focused, Input), "a line that is not there must not take what is typed"
        await pilot.press("1")
        await until(pilot, lambda: getattr(app.screen, "TITLE", "") == "Home")


def judged_one(root: Path) -> Store:
    """A store with two answers, one of which a grader found wrong."""
    store, prompt = Store(Workspace(root).store_path), Prompt((Message("user", "1 + 1?"),), reference="2")
    store.add_prompts([prompt])
    store.add_traces([Trace(f"b2:{name}", prompt.id, "e", "m", "", "Two.") for name in ("one", "other")])
    store.add_facts([Fact("b2:one", "exact", value=0.0, passed=False, reason="states no number")])
    return store


@piloted
async def test_one_key_says_that_a_trace_is_right_or_wrong_and_another_takes_it_back(tmp_path: Path) -> None:
    store = judged_one(tmp_path)
    app = LocalDistillApp(tmp_path, start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "✗ 0")
        await pilot.press("a")
        await shows(pilot, app, "✓ 1")
        await pilot.press("down", "w")
        await until(pilot, lambda: all(mark in assert_harmless(app) for mark in ("✓ 1", "✗ 0")))
        assert store.verdicts(["b2:one", "b2:other"]) == {"b2:one": True, "b2:other": False}
        await pilot.press("z", "z")
        await until(pilot, lambda: store.verdicts(["b2:one", "b2:other"]) == {"b2:one": False})
        await until(pilot, lambda: "✗ 0" in assert_harmless(app) and "✓" not in assert_harmless(app))
        await pilot.press("z")
        await until(pilot, lambda: any("nothing to take back" in note.message for note in app._notifications))


@piloted
async def test_keys_that_follow_each_other_at_once_are_kept_in_their_order(tmp_path: Path) -> None:
    store = judged_one(tmp_path)
    app = LocalDistillApp(tmp_path, start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "✗ 0")
        await pilot.press("w", "a", "asterisk", "w", "asterisk", "a", "w", "z")
        await until(pilot, lambda: len(store.told("b2:one", PERSON)) == 8)
        assert [fact.passed for fact in store.told("b2:one", PERSON)] == [
            False, True, True, False, False, True, False, True]
        assert store.verdicts(["b2:one"]) == {"b2:one": True}


@piloted
async def test_tags_notes_and_favourites_are_seen_in_the_table_and_in_the_trace(tmp_path: Path) -> None:
    judged_one(tmp_path)
    app = LocalDistillApp(tmp_path, start="traces")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, "2 traces")
        await pilot.press("asterisk", "number_sign", *"odd, long", "enter")
        await shows(pilot, app, "★ #long #odd 1 + 1?")
        await pilot.press("enter")
        await shows(pilot, app, "a person: ★ favourite #long #odd")
        await pilot.press("n", *"in words", "enter")
        await shows(pilot, app, "a person: ★ favourite #long #odd in words")
        await pilot.press("number_sign")
        assert app.screen.query_one("#ask", Input).value == "long odd"
        app.screen.query_one("#ask", Input).value = "a;b"
        await pilot.press("enter")
        await shows(pilot, app, "'a;b' is no tag")
        await pilot.press("number_sign")
        app.screen.query_one("#ask", Input).value = "long"
        await pilot.press("enter")
        text = await shows(pilot, app, "a person: ★ favourite #long in words")
        assert "is no tag" not in text
        await pilot.press("escape", "f", *"list_contains(tags, 'long') AND favourite", "enter")
        await shows(pilot, app, "1 trace ")


@piloted
async def test_a_trace_is_written_over_in_a_window_and_the_new_one_is_one_key_from_its_parent(tmp_path: Path) -> None:
    store = judged_one(tmp_path)
    app = LocalDistillApp(tmp_path, start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "2 traces")
        await pilot.press("enter")
        await shows(pilot, app, "states no number")
        await pilot.press("i")
        await shows(pilot, app, "Edit: a new trace")
        await pilot.press("ctrl+s")
        await shows(pilot, app, "nothing of b2:one was changed")
        app.screen.query_one("#edit-answer", TextArea).load_text("It is 2.")
        await pilot.press("ctrl+s")
        await shows(pilot, app, "It is 2.")
        await until(pilot, lambda: app.screen.query_one(TraceText).detail.trace.parent_id == "b2:one")
        await pilot.press("u")
        await until(pilot, lambda: app.screen.query_one(TraceText).detail.trace.id == "b2:one")
        await pilot.press("d")
        await shows(pilot, app, "It is 2.")
    assert [(trace.answer, trace.rewrite) for trace in store.traces()][2:] == [("It is 2.", "edit@1/person")]


@piloted
async def test_what_a_terminal_cannot_show_is_not_edited_in_a_window() -> None:
    app = LocalDistillApp(hostile(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, "8 traces")
        await pilot.press("i")
        await shows(pilot, app, "localdistill traces edit")


@piloted
async def test_a_sample_is_drawn_of_what_is_listed_and_escape_shows_all_again() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("o")
        await shows(pilot, app, "20 traces  sample 1")
        await pilot.press("o")
        await shows(pilot, app, "20 traces  sample 2")
        await pilot.press("f", *"score = 0", "enter")
        await shows(pilot, app, "5 traces  filter: score = 0  sample 2")
        await pilot.press("escape", "escape")
        await shows(pilot, app, f"{QUESTIONS} traces")


@piloted
async def test_the_prompt_of_a_trace_is_forgotten_after_a_yes(tmp_path: Path) -> None:
    store = Store(Workspace(tmp_path).store_path)
    prompts = [Prompt((Message("user", f"{word} of the garden?"),)) for word in ("Quince", "Plum")]
    store.add_prompts(prompts)
    store.add_traces([Trace(f"b2:{n}", prompt.id, "e", "m", "", "Two.") for n, prompt in enumerate(prompts)])
    app = LocalDistillApp(tmp_path, start="traces")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(pilot, app, "2 traces")
        page(app).action_forget()
        await shows(pilot, app, "Forget 1 prompts")
        assert "cannot be removed: files of your own" in await shows(pilot, app, "y: yes")
        assert store.counts().prompts == 2
        await pilot.press("y")
        await shows(pilot, app, "1 prompts, 1 answers")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, TracesPage) and table(app).count == 1)
    assert [prompt.question for prompt in store.prompts()] == ["Plum of the garden?"]


@piloted
async def test_what_is_listed_goes_out_to_a_file_and_what_it_lost_is_shown(tmp_path: Path) -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(100, 40)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("f", *"score = 0", "enter")
        await shows(pilot, app, "5 traces")
        await pilot.press("x")
        await shows(pilot, app, "Export these traces")
        out = tmp_path / "wrong.jsonl"
        app.screen.query_one("#field-file", Input).value = str(out)
        app.screen.query_one("#field-layout", Input).value = "mesages"
        await pilot.press("enter", "enter", "enter", "enter")
        await shows(pilot, app, "did you mean 'messages'")
        assert not out.exists()
        app.screen.query_one("#field-layout", Input).value = "messages"
        await pilot.press("enter", "enter", "enter", "enter")
        text = await shows(pilot, app, "5 rows as messages")
        assert "how it was asked" in text and "5 of 5 answers are wrong" in text
        assert len(out.read_text().splitlines()) == 5


@piloted
async def test_prompts_are_walked_through_and_the_answers_of_one_are_listed() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(100, 40)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("p")
        await shows(pilot, app, f"{QUESTIONS} prompts")
        await shows(pilot, app, "Double 0")
        await pilot.press("a")
        await shows(pilot, app, f"{QUESTIONS} prompts with an answer")
        await pilot.press("a")
        await shows(pilot, app, "0 prompts without an answer")
        await pilot.press("a")
        await shows(pilot, app, "Double 1")
        await pilot.press("down", "enter")
        await shows(pilot, app, "1 trace ")
        assert "filter: prompt_id = " in await shows(pilot, app, "Double")


@piloted
async def test_verdicts_are_walked_through_by_rule_and_the_traces_of_a_line_are_listed() -> None:
    app = LocalDistillApp(doubling(), start="traces")
    async with app.run_test(size=(110, 40)) as pilot:
        await shows(pilot, app, f"{QUESTIONS} traces")
        await pilot.press("v")
        await shows(pilot, app, f"{QUESTIONS} verdicts by rule")
        assert "same_number: one value" in await shows(pilot, app, "exact@")
        await pilot.press("enter")
        await shows(pilot, app, "filter: starts_with(grade_reason, ")
