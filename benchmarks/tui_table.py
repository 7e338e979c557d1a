"""The table of traces beside Textual's DataTable: time to the first paint of 100,000 rows, and from a key to the
repaint while scrolling a million. The rows of the second part are made up on the spot, those of the third come from a
store.

    python benchmarks/tui_table.py                       # add --busy on a machine that does other things
    python benchmarks/tui_table.py --workspace FOLDER    # also scroll the traces of a real workspace
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from machine import add_arguments, check_idle, describe, say
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import DataTable

from tui.app import LocalDistillApp
from tui.widgets.paged_table import Cell, Column, PagedTable

COLUMNS = (Column("score", 6), Column("tokens", 7, right=True), Column("status", 10), Column("question", 0),
           Column("model", 22), Column("trace", 12))
SIZE = (140, 45)
ROWS_BESIDE = 100_000
ROWS_SCROLLED = 1_000_000
PRESSES = 400
JUMPS = 40


def cells(index: int) -> tuple[str, ...]:
    """One made-up trace."""
    return ("✓ 1", f"{100 + index % 900:,}", "complete", f"Question number {index}: how many are left?", "host/model",
            f"{index:012x}")


class MadeUp:
    """Rows that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def cells(self, index: int) -> Sequence[Cell]:
        """One row."""
        return [(text, "") for text in cells(index)]

    def seen(self, first: int, last: int) -> None:
        """Nothing is missing."""


class Ours(App[None]):
    """The paged table over `count` rows."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.rows = MadeUp(count)

    def compose(self) -> ComposeResult:
        """The table."""
        yield PagedTable(COLUMNS)

    def fill(self) -> None:
        """All rows."""
        table = self.query_one(PagedTable)
        table.show(self.rows)
        table.focus()


class Theirs(App[None]):
    """Textual's table over `count` rows."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def compose(self) -> ComposeResult:
        """The table."""
        yield DataTable(cursor_type="row")

    def fill(self) -> None:
        """All rows."""
        table: DataTable[str] = self.query_one(DataTable)
        table.add_columns(*(column.title for column in COLUMNS))
        table.add_rows(cells(index) for index in range(self.count))
        table.focus()


def painted(app: App[None]) -> int:
    """How often the app has drawn."""
    return int(getattr(app, "_painted", 0))


def count_paints(app: App[None]) -> None:
    """Count every update that the screen hands to the terminal."""
    display = app._display

    def counting(*arguments: object, **named: object) -> None:
        app._painted = painted(app) + 1  # type: ignore[attr-defined]
        display(*arguments, **named)  # type: ignore[arg-type]

    app._display = counting  # type: ignore[method-assign]


async def repaint(app: App[None], act: Callable[[], object], limit_s: float = 60.0) -> float:
    """Seconds from `act` to the next update of the screen."""
    before, began = painted(app), time.perf_counter()
    act()
    while painted(app) == before:
        if time.perf_counter() - began > limit_s:
            raise SystemExit("nothing was painted")
        await asyncio.sleep(0)
    return time.perf_counter() - began


async def first_paint(app: Ours | Theirs) -> float:
    """Seconds from handing over the rows to their first paint."""
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        count_paints(app)
        taken = await repaint(app, app.fill)
        found = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "Question number 0" in found and "Question number 20" in found
        return taken


def percentiles(samples: Sequence[float]) -> str:
    """Median, 95th percentile and the longest, in milliseconds."""
    ordered = sorted(samples)
    middle, late, last = (1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 1))
    return f"median {middle:.1f} ms, p95 {late:.1f} ms, longest {last:.1f} ms"


async def scrolled(app: App[None], pilot: Pilot[None], keys: Sequence[str]) -> list[float]:
    """Seconds from each key to the repaint, through the app's own queue of events."""
    from textual import events

    samples = []
    for key in keys:
        await pilot.pause(0)
        samples.append(await repaint(app, lambda key=key: app.post_message(events.Key(key, None))))  # type: ignore[misc]
    return samples


async def scroll_made_up() -> None:
    """Keys over a million made-up rows."""
    app = Ours(ROWS_SCROLLED)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.fill()
        await pilot.pause()
        count_paints(app)
        app.query_one(PagedTable).cursor = ROWS_SCROLLED // 2
        for name, keys in (("down", ["down"] * PRESSES), ("page down", ["pagedown"] * PRESSES),
                           ("end and home", ["end", "home"] * JUMPS)):
            say(f"  {name}: {percentiles(await scrolled(app, pilot, keys))}")


async def scroll_store(workspace: Path) -> None:
    """Keys over the traces of a workspace, and how long rows behind a cold jump take to arrive."""
    app = LocalDistillApp(workspace, start="traces")
    async with app.run_test(size=SIZE) as pilot:
        table = app.screen.query_one("#list", PagedTable)
        while not table.count or not getattr(app.screen, "_browser", None).complete:  # type: ignore[union-attr]
            await pilot.pause(0.01)
        say(f"store: {table.count:,} traces, open to all rows known")
        await pilot.pause(0.5)
        count_paints(app)
        for name, keys in (("down", ["down"] * PRESSES), ("page down", ["pagedown"] * PRESSES)):
            say(f"  {name}: {percentiles(await scrolled(app, pilot, keys))}")
        samples = []
        for number in range(JUMPS):
            began = time.perf_counter()
            table.cursor = (number * 7919 * 131) % table.count
            while app.screen._browser.row(table.cursor) is None:  # type: ignore[attr-defined]
                await asyncio.sleep(0.001)
            samples.append(time.perf_counter() - began)
        say(f"  data behind a cold jump: {percentiles(samples)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--workspace", type=Path, help="a workspace whose traces are scrolled too")
    chosen = parser.parse_args()
    describe(["textual", "duckdb"])
    check_idle(chosen.busy)
    peer, ours = [], []
    asyncio.run(first_paint(Ours(ROWS_BESIDE)))
    for _ in range(chosen.repeats):
        peer.append(asyncio.run(first_paint(Theirs(ROWS_BESIDE))))
        ours.append(asyncio.run(first_paint(Ours(ROWS_BESIDE))))
        ours.append(asyncio.run(first_paint(Ours(ROWS_BESIDE))))
        peer.append(asyncio.run(first_paint(Theirs(ROWS_BESIDE))))
    ratios = [theirs / mine for theirs, mine in zip(peer, ours)]
    say(f"first paint of {ROWS_BESIDE:,} rows: DataTable {statistics.median(peer):.2f} s, "
        f"ours {1e3 * statistics.median(ours):.1f} ms")
    say(f"ratio: {statistics.median(peer) / statistics.median(ours):.0f}x "
        f"(pairs {min(ratios):.0f} to {max(ratios):.0f}); target 100x")
    say(f"key to repaint over {ROWS_SCROLLED:,} rows (target: p95 under 50 ms)")
    asyncio.run(scroll_made_up())
    if chosen.workspace:
        asyncio.run(scroll_store(chosen.workspace))


if __name__ == "__main__":
    main()
