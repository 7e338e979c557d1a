"""The store from the screen: compared with the journals, and made again of them after a yes."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from localdistill import Message, Prompt, Store, Trace, Workspace
from tests.tui.driving import piloted, until
from tests.tui.hostile import assert_harmless
from tui.app import LocalDistillApp


def stored(root: Path) -> Store:
    """A store with one answer."""
    store, prompt = Store(Workspace(root).store_path), Prompt((Message("user", "1 + 1?"),))
    store.add_prompts([prompt])
    store.add_traces([Trace("b2:one", prompt.id, "e", "m", "", "Two.")])
    return store


async def shows(pilot: Pilot[None], app: LocalDistillApp, text: str) -> str:
    await until(pilot, lambda: text in assert_harmless(app))
    return assert_harmless(app)


@piloted
async def test_a_store_that_lacks_something_is_found_and_made_again_after_a_yes(tmp_path: Path) -> None:
    store = stored(tmp_path)
    store.sessions.run(lambda con: con.execute("DELETE FROM traces"))
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await app.run_action("screen.check_store")
        text = await shows(pilot, app, "The store and the journals differ")
        assert "0 stored, 1 in journals, 1 missing" in text
        await pilot.press("enter")
        await shows(pilot, app, "y: yes")
        await pilot.press("n")
        assert not list(store.traces()), "no means no"
        await app.run_action("screen.rebuild_store")
        await shows(pilot, app, "y: yes")
        await pilot.press("y")
        text = await shows(pilot, app, "1 prompts, 1 traces")
        assert ".before-1" in text
        await pilot.press("escape")
        await app.run_action("screen.check_store")
        await shows(pilot, app, "The store holds what the journals hold")
    assert [trace.id for trace in store.traces()] == ["b2:one"]


@piloted
async def test_where_nothing_is_stored_looking_says_so_and_makes_nothing(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await app.run_action("screen.check_store")
        await shows(pilot, app, "neither a store nor a journal")
    assert not any(tmp_path.glob("*.duckdb"))
