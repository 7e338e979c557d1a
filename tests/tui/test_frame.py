"""What all screens share: pictures that fit the width they are seen at, and windows that are too small for any."""

from __future__ import annotations

from pathlib import Path

from textual.app import App, ComposeResult
from textual.widgets import Input

from tests.tui.driving import piloted, until
from tests.tui.garden import copied, text_of
from tests.tui.hostile import screen_text
from tui.app import LocalDistillApp
from tui.widgets.facts import Facts
from tui.widgets.pipeline import Pipeline

STAGES = [(name, "done") for name in ("collect", "grade", "select", "rewrite", "format", "train", "evaluate")]


def seen(app: LocalDistillApp) -> list[str]:
    """The lines of the screen that hold anything."""
    return [line.strip() for line in screen_text(app).splitlines() if line.strip()]


class Wrapping(App[None]):
    """Two pictures whose height depends on the width."""

    def compose(self) -> ComposeResult:
        """One below the other."""
        yield Pipeline(id="chain")
        yield Facts([("memory", "measured 3.1 GB before step 1; " * 4), ("!", "a warning")], id="facts")


@piloted
async def test_a_picture_is_as_high_as_its_width_needs_from_the_first_frame_on() -> None:
    app = Wrapping()
    async with app.run_test(size=(44, 20)) as pilot:
        chain, facts = app.query_one(Pipeline), app.query_one(Facts)
        chain.show(STAGES)
        await pilot.pause()
        assert chain.region.height == chain.text.count("\n") + 1 == 3
        assert facts.region.height == facts.text.count("\n") + 1 > 3
        assert facts.region.y == chain.region.height
        await pilot.resize_terminal(120, 20)
        await pilot.pause()
        assert chain.region.height == 1 and facts.region.y == 1
        assert max(map(len, facts.text.splitlines())) <= 120


@piloted
async def test_a_window_that_is_too_small_says_so_and_loses_nothing(tmp_path: Path) -> None:
    app = LocalDistillApp(copied(tmp_path), start="runs")
    async with app.run_test(size=(20, 5)) as pilot:
        await until(pilot, lambda: "20x5: too small" in text_of(app, "#too-small"))
        page = app.screen
        assert seen(app) == ["20x5: too small", "use 60x20 or more", "runs go on", "ctrl+q leaves"]
        await pilot.press("4")
        await until(pilot, lambda: app.screen is not page)
        await until(pilot, lambda: seen(app)[0] == "20x5: too small")
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: seen(app)[0].startswith("localdistill") and "Traces" in seen(app)[1])
        await pilot.resize_terminal(12, 3)
        await until(pilot, lambda: seen(app)[0].startswith("12x3: too"))


@piloted
async def test_what_is_typed_goes_on_after_a_window_was_too_small_for_a_moment(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="chat")
    async with app.run_test(size=(80, 24)) as pilot:
        box = app.screen.query_one("#line", Input)
        await until(pilot, lambda: box.has_focus)
        await pilot.press(*"what")
        await pilot.resize_terminal(80, 8)
        await until(pilot, lambda: "too small" in seen(app)[0])
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "localdistill" in seen(app)[0])
        await pilot.press("3")
        assert box.has_focus and box.value == "what3"
