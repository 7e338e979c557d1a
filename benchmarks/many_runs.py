"""10,000 runs: their listing, the commands `runs` and `status`, and how long the screen Runs takes until its first page
is painted; beside reading the two small files of every run and nothing else, which is the least that a listing can do.

    python -m benchmarks.many_runs [--runs 10000] [--keep FOLDER] [--busy]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine
from localdistill import RunFolder, RunListing, Workspace, parse_recipe
from localdistill.safety.children import output_of
from tui.app import LocalDistillApp

TARGET_S = 1.0
TIMES, LOOK_EVERY_S, LIMIT_S = 5, 0.005, 60.0
SIZE = (120, 40)
RECIPE = """name = "many"
[prompts]
files = ["prompts.jsonl"]
[teacher]
use = "replay"
path = "replies.jsonl"
[[grade]]
use = "exact"
[[filter]]
use = "verified"
"""


def make_runs(workspace: Workspace, count: int) -> None:
    """`count` runs that have ended, each with the files of one."""
    first = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE,
                             {"stages": ["collect", "grade", "select"], "base": str(workspace.root)})
    said = {"state": "finished", "recipe": "many", "stage": "select"}
    first.write_status(said)
    for name in ("events.jsonl", "log.txt"):
        (first.path / name).touch()
    first.hold().close()
    for number in range(2, count + 1):
        path = workspace.runs / f"many-{number}"
        shutil.copytree(first.path, path, copy_function=shutil.copyfile)
        RunFolder(path).write_status(said)  # a status says whose it is: a copied one is damage, and slower to read


def read_plainly(runs: Path) -> None:
    """The least that a listing reads."""
    for folder in runs.iterdir():
        for name in ("request.json", "status.json"):
            with open(folder / name, "rb") as file:
                file.read()


def command(root: Path, *words: str) -> Callable[[], object]:
    """A command in a process of its own, as a person starts it."""
    line = [sys.executable, "-m", "localdistill", *words, "--workspace", str(root)]

    def work() -> None:
        if output_of(line, LIMIT_S) is None:
            raise SystemExit(f"{' '.join(line)} failed")

    return work


async def first_page(root: Path, count: int) -> tuple[float, float]:
    """Seconds from the first paint of the screen Runs until its newest run is painted, and the longest time that the
    event loop was held meanwhile."""
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=SIZE):
        began = before = time.perf_counter()
        held = 0.0
        while not app.state.runs or not is_painted(app, f"many-{count}"):
            await asyncio.sleep(LOOK_EVERY_S)
            before, held = time.perf_counter(), max(held, time.perf_counter() - before - LOOK_EVERY_S)
        return time.perf_counter() - began, held


def is_painted(app: LocalDistillApp, text: str) -> bool:
    """The screen shows it."""
    return any(text in strip.text for strip in app.screen._compositor.render_strips())


def told(what: str, works: Callable[[], object], target_s: float | None = TARGET_S) -> float:
    """Do it several times; print the median, the slowest and the processor time, and return the last, in seconds."""
    taken, used = [], []
    for _ in range(TIMES):
        began, cpu = time.perf_counter(), cpu_s()
        works()
        taken.append(time.perf_counter() - began)
        used.append(cpu_s() - cpu)
    median = statistics.median(taken)
    verdict = "" if target_s is None else f"; target {target_s:g} s: {'reached' if median <= target_s else 'MISSED'}"
    machine.say(f"  {what}: median {median:.2f} s, slowest {max(taken):.2f} s, {statistics.median(used):.2f} s of "
                f"CPU{verdict}")
    return statistics.median(used)


def cpu_s() -> float:
    """Processor time of this process and of the children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(root: Path, count: int) -> None:
    """Print all figures."""
    workspace = Workspace(root)
    if not workspace.runs.is_dir():
        make_runs(workspace, count)
    machine.say(f"{count:,} runs")
    least = told("the least: two files of each run", lambda: read_plainly(workspace.runs), None)
    listing = RunListing(workspace.runs)
    ours = told("the listing", lambda: RunListing(workspace.runs).look())
    machine.say(f"  ratio of CPU to the least: {ours / least:.1f}")
    listing.look()
    told("the listing, looked at again", listing.look)
    told("localdistill runs", command(root, "runs"))
    told("localdistill status", command(root, "status"))
    pages = [asyncio.run(first_page(root, count)) for _ in range(TIMES)]
    machine.say(f"  the first page of Runs: median {statistics.median(page for page, _ in pages):.2f} s, slowest "
                f"{max(page for page, _ in pages):.2f} s; the event loop was held for "
                f"{max(held for _, held in pages):.2f} s at most")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays; runs there are not made again")
    given = parser.parse_args()
    machine.describe(["textual"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as made:
        measure(given.keep or Path(made), given.runs)
    machine.check_idle(True)


if __name__ == "__main__":
    main()
