"""A million traces through collect, grade, select and format, and what browsing them takes: a page anywhere, every
order, a search until its first hits show, and how many a filter lets through. They are imported, or asked of a
recording (`--asked`: a million prompts and a million replies of about 1 kB, journalled as any teacher's).

    python -m benchmarks.million [--traces 1000000] [--asked] [--keep FOLDER] [--busy]

Each stage is its own process, as in every run; its time, its processor time and its peak memory are printed. Pages and
searches are timed in this process, cold jumps among them; the median and the slowest are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import machine
from benchmarks.api_runs import stage_process
from localdistill import Member, RunFolder, Workspace, browse, list_traces, parse_recipe, try_filters
from localdistill.runs import control

PAGE_TARGET_S, SEARCH_TARGET_S, COUNT_TARGET_S = 0.05, 1.0, 0.5
LOOK_EVERY_S = 0.05
JUMPS = 40
IMPORTED = """name = "million"
[traces.all]
files = ["traces.jsonl"]
"""
ASKED = """name = "million"
[prompts]
files = ["prompts.jsonl"]
[engine]
recorded = { use = "replay", path = "replies.jsonl" }
[traces.all]
ask = "recorded"
"""
REST = """[[grade]]
use = "exact"
[[label]]
use = "tokens"
[[filter]]
use = "verified"
[[filter]]
use = "length"
unit = "characters"
maximum = 2000
[[filter]]
use = "duplicates"
[student]
model = "shipped:pantry/student"
max_tokens = 400
[arm.full]
format = "full_trace"
"""


@dataclass
class Used:
    """What one stage took."""

    stage: str
    began: float
    ended: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0


def write_traces(path: Path, count: int) -> None:
    """`count` answered questions of a few hundred bytes, all different; one answer in ten is wrong."""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            more, told = number % 97, number + number % 97 + (number % 10 == 3)
            said = (f"<think>\nThere are {number} apples at first. Then {more} more come along, so {number} + {more} = "
                    f"{told}. Let me check: {told} - {more} = {number}. Yes.\n</think>\n\nThe answer is {told}.")
            file.write(json.dumps({"messages": [
                {"role": "user", "content": f"Ann has {number} apples and picks {more} more. How many has she now?"},
                {"role": "assistant", "content": said}], "reference": str(number + more), "model": "bench"}) + "\n")


def write_recording(folder: Path, count: int) -> None:
    """The same questions as prompts, and a recording that answers them at length."""
    with open(folder / "prompts.jsonl", "w", encoding="utf-8") as prompts, \
            open(folder / "replies.jsonl", "w", encoding="utf-8") as replies:
        for number in range(count):
            more, told = number % 97, number + number % 97 + (number % 10 == 3)
            asked = f"Ann has {number} apples and picks {more} more. How many has she now?"
            steps = [f"Step {step}: from {number} on, {step} of the {more} are counted, which makes {number + step}."
                     for step in range(1, 12)]
            prompts.write(json.dumps({"messages": [{"role": "user", "content": asked}],
                                      "reference": str(number + more)}) + "\n")
            replies.write(json.dumps({"question": asked, "reasoning": " ".join(steps),
                                      "answer": f"The answer is {told}."}) + "\n")


def follow(run: RunFolder, count: int) -> None:
    """Look at every stage of a run until the run ends, and print what each took as soon as it is known."""
    found: list[Used] = []
    while run.is_alive():
        stage, process = run.status().stage, stage_process(run)
        if stage and (not found or found[-1].stage != stage):
            tell(found[-1:], count)
            found.append(Used(stage, time.monotonic()))
        if process is not None and found:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    found[-1].cpu_s = times.user + times.system
                    found[-1].peak_mb = max(found[-1].peak_mb, process.memory_info().rss / 1e6)
            except psutil.Error:
                pass
        if found:
            found[-1].ended = time.monotonic()
        time.sleep(LOOK_EVERY_S)
    tell(found[-1:], count)
    status = run.status()
    if status.state != "finished":
        raise SystemExit(f"the run is {status.state}: {status.data.get('message')}")


def tell(stages: Sequence[Used], count: int) -> None:
    """Print what these stages took for `count` traces."""
    for one in stages:
        wall_s = one.ended - one.began
        machine.say(f"  {one.stage:<8} {wall_s:8.1f} s, {one.cpu_s:8.1f} s of CPU, "
                    f"{count / max(one.cpu_s, 1e-9):9,.0f} traces per CPU second, peak {one.peak_mb:,.0f} MB")


def measure_chain(folder: Path, count: int, asked: bool) -> RunFolder:
    """Run the stages and print what each took."""
    recipe, source = (ASKED + REST, "replies.jsonl") if asked else (IMPORTED + REST, "traces.jsonl")
    if not (folder / source).is_file():
        if asked:
            write_recording(folder, count)
        else:
            write_traces(folder / source, count)
    size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
    machine.say(f"{count:,} traces, {size / 1e6:,.0f} MB of JSON lines")
    run = control.start(Workspace(folder), parse_recipe(recipe), recipe, folder)
    follow(run, count)
    store = sum(path.stat().st_size for path in folder.glob("localdistill.duckdb*"))
    journals = sum(path.stat().st_size for path in (*folder.glob("journals/**/*"), *run.path.glob("replies.jsonl*"))
                   if path.is_file())
    machine.say(f"  the store takes {store / 1e6:,.0f} MB, {store / size:.2f} of the JSON lines; the journals "
                f"{journals / 1e6:,.0f} MB, {journals / size:.2f}")
    return run


@contextmanager
def clocked(seconds: list[float]) -> Iterator[None]:
    """Add how long the block took."""
    began = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - began)


def told(what: str, seconds: list[float], target_s: float | None = None) -> None:
    """Print median and slowest, and whether the median reached the target."""
    median, slowest = statistics.median(seconds), max(seconds)
    kept = "" if target_s is None or median > target_s else "reached"
    verdict = "" if target_s is None else f"; target {1e3 * target_s:.0f} ms: {kept or 'MISSED'}"
    machine.say(f"  {what}: median {1e3 * median:.1f} ms, slowest {1e3 * slowest:.1f} ms{verdict}")


def measure_browsing(folder: Path, run: RunFolder) -> None:
    """Pages, orders, searches and listings over what is stored, and what filters would leave."""
    workspace = Workspace(folder)
    opened: list[float] = []
    with clocked(opened):
        view = browse(workspace)
        view.resolve()
    machine.say(f"browsing {view.count:,} traces")
    told("to know all places", opened)
    pages: list[float] = []
    for number in range(JUMPS):
        page = (number * 7919 * 131) % max(1, view.count // 128)
        with clocked(pages):
            view.load(page)
    told("a page anywhere", pages, PAGE_TARGET_S)
    for order in ("newest", "score", "tokens"):
        sorting: list[float] = []
        with clocked(sorting):
            other = browse(workspace, order=order)
            other.resolve()
        told(f"to order by {order}", sorting)
    common = ("apples and picks 96 more", "picks 1 more")
    told("first hits of a search", [first_hits(workspace, text) for text in common], SEARCH_TARGET_S)
    told("a search for what is at the end", [first_hits(workspace, f"has {view.count - 5} apples")])
    listed: list[float] = []
    with clocked(listed):
        list_traces(workspace)
    told("localdistill traces", listed)
    measure_counts(workspace, run)


def measure_counts(workspace: Workspace, run: RunFolder) -> None:
    """How many traces a filter lets through: once, which looks up where they are, and then with other options."""
    first: list[float] = []
    with clocked(first):
        try_filters(workspace, run, [Member(use="where", options={"condition": "true"})], "all")
    told("to count what a filter lets through, the first time", first)
    for text in ("completion_tokens < {}", "tokens > {}", "score = 1 AND completion_tokens < {}"):
        counted: list[float] = []
        for most in (50, 60, 70):
            where = text.format(most)
            with clocked(counted):
                kept = try_filters(workspace, run, [Member(use="where", options={"condition": where})], "all").kept
        told(f"to count what passes {where} ({kept:,})", counted, COUNT_TARGET_S)
    verified: list[float] = []
    for least in (1.0, 0.5, 0.0):
        with clocked(verified):
            try_filters(workspace, run, [Member(use="verified", options={"min_score": least})], "all")
    told("to count what `verified` lets through", verified, COUNT_TARGET_S)


def first_hits(workspace: Workspace, text: str) -> float:
    """Seconds until a search shows something."""
    view, began = browse(workspace, search=text), time.perf_counter()
    first: list[float] = []

    def grew() -> None:
        if view.count and not first:
            first.append(time.perf_counter() - began)
            view.stop()

    view.resolve(grew)
    return first[0] if first else time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--asked", action="store_true", help="ask a recording for them instead of importing them")
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays; what is there is not made again")
    given = parser.parse_args()
    machine.describe(["duckdb", "pyarrow"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        measure_browsing(folder, measure_chain(folder, given.traces, given.asked))
    machine.check_idle(True)


if __name__ == "__main__":
    main()
