"""Whole runs of the collect stage for benchmarks: a recipe, a workspace of its own, and what the run's process used."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from localdistill import Workspace, parse_recipe
from localdistill.recipe import Recipe
from localdistill.runs import control
from localdistill.workspace.run_folder import RunFolder

LOOK_EVERY_S = 0.02


@dataclass
class Used:
    """What a run took."""

    wall_s: float = 0.0
    """From the start of the supervisor to its end."""
    stage_started_at: float = 0.0
    """When the stage's process began, seconds since the epoch."""
    last_journalled_at: float = 0.0
    cpu_s: float = 0.0
    """Of the stage's process."""
    peak_mb: float = 0.0
    """Most memory of the stage's process."""


def write_prompts(path: Path, count: int, chars: int = 200, first: int = 0) -> Path:
    """`count` different questions of about so many characters."""
    filler = "Explain each step and name the rule that you used. " * (chars // 50)
    with open(path, "w", encoding="utf-8") as handle:
        for number in range(first, first + count):
            turn = {"role": "user", "content": f"Question {number}: {filler}"[:chars]}
            handle.write(json.dumps({"messages": [turn], "reference": str(number)}) + "\n")
    return path


def recipe_text(prompts: Path, url: str, options: str = "", collecting: str = "") -> str:
    """A recipe that collects answers of the server at `url`."""
    return (f'name = "bench"\n[prompts]\nfiles = ["{prompts}"]\n[collect]\nmax_tokens = 1024\n{collecting}\n'
            f'[[teacher]]\nuse = "openai_compatible"\nbase_url = "{url}"\nmodel = "mock"\n{options}\n'
            '[[grade]]\nuse = "exact"\n[[filter]]\nuse = "verified"\n')


def recipe_of(text: str) -> Recipe:
    """The checked recipe."""
    return parse_recipe(text)


def start(folder: Path, text: str) -> RunFolder:
    """Start the collect stage in processes of its own."""
    return control.start(Workspace(folder), parse_recipe(text), text, folder, until="collect")


def stage_process(run: RunFolder) -> psutil.Process | None:
    """The process of the stage that runs now."""
    pid = run.status().data.get("pid")
    try:
        children = psutil.Process(pid).children() if isinstance(pid, int) else []
        return next((child for child in children if "localdistill.stages" in child.cmdline()), None)
    except psutil.Error:
        return None


def _since_boot_error_s() -> float:
    """Linux states the time of boot in whole seconds, and psutil counts every process's start from there."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - psutil.boot_time()


def follow(begin: Callable[[], RunFolder]) -> tuple[RunFolder, Used]:
    """Run to the end and look at the stage's process meanwhile."""
    used, began = Used(), time.perf_counter()
    run = begin()
    process = None
    while run.is_alive():
        process = process or stage_process(run)
        if process is not None:
            try:
                with process.oneshot():
                    used.stage_started_at = process.create_time() + _since_boot_error_s()
                    times = process.cpu_times()
                    used.cpu_s = times.user + times.system
                    used.peak_mb = max(used.peak_mb, process.memory_info().rss / 1e6)
            except psutil.Error:
                pass
        time.sleep(LOOK_EVERY_S)
    used.wall_s = time.perf_counter() - began
    status = run.status()
    if status.state != "finished":
        raise SystemExit(f"the run is {status.state}: {status.data.get('message')}")
    used.last_journalled_at = run.journal.stat().st_mtime
    return run, used
