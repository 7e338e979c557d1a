"""The whole collect stage against its ideal: 5,000 prompts at a server of 200 ms with 256 in flight, journal and store
included; and its memory at 10,000 and at 50,000 prompts.

    python -m benchmarks.api_collect [--prompts 5000] [--large 50000] [--repeats 3] [--busy]

The ideal is a client that costs nothing: prompts / 256 * 200 ms, rounded up to whole
rounds. The clock runs from the first request that reaches the server to the last reply that is on disk in the journal;
the stage's whole time, with its start and end, stands beside it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path

from benchmarks import api_runs, machine
from benchmarks.api_server import Behaviour, Served, served

IN_FLIGHT, LATENCY_S = 256, 0.2
TARGET = 1.15
SMALL = 10_000
"""Prompts of the small memory run: enough for every cache and pool to have its size."""


def measured(server: Served, count: int, options: str) -> tuple[float, api_runs.Used]:
    """Seconds from the first request to the last journalled reply, and what the stage's process used."""
    server.seen(clear=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = api_runs.recipe_text(api_runs.write_prompts(folder / "q.jsonl", count), server.url, options)
        _, used = api_runs.follow(lambda: api_runs.start(folder / "ws", text))
    seen = server.seen()
    assert sum(seen.answered.values()) == sum(seen.asked.values()) == count, "every prompt is asked once"
    return used.last_journalled_at - seen.first_at, used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--large", type=int, default=50_000, help="prompts of the large memory run; 0 leaves it out")
    given = parser.parse_args()
    machine.describe(["aiohttp", "duckdb", "pyarrow"])
    machine.check_idle(given.busy)
    ideal = math.ceil(given.prompts / IN_FLIGHT) * LATENCY_S
    with served(Behaviour(latency_s=LATENCY_S)) as server:
        for name, options in (("256 in flight", f"concurrency = {IN_FLIGHT}"), ("adaptive", ""),
                              ("256 in flight, whole bodies", f"concurrency = {IN_FLIGHT}\nstream = false")):
            found = [measured(server, given.prompts, options) for _ in range(given.repeats)]
            walls = [wall for wall, _ in found]
            wall = statistics.median(walls)
            used = found[walls.index(sorted(walls)[len(walls) // 2])][1]
            said = f"target {TARGET}: {'reached' if wall / ideal <= TARGET else 'NOT reached'}"
            machine.say(f"{given.prompts} prompts, {name}: first request to last journalled reply {wall:.2f} s "
                        f"({min(walls):.2f} to {max(walls):.2f}), {wall / ideal:.2f} times the ideal {ideal:.2f} s; "
                        f"{said if name != 'adaptive' else 'it begins with 16'}")
            machine.say(f"  stage with start and end: {used.wall_s:.2f} s, its process {used.cpu_s:.2f} s of CPU, "
                        f"{used.peak_mb:.0f} MB")
        if given.large:
            _, small = measured(server, SMALL, f"concurrency = {IN_FLIGHT}")
            wall, large = measured(server, given.large, f"concurrency = {IN_FLIGHT}")
            machine.say(f"memory: {small.peak_mb:.0f} MB at {SMALL} prompts, {large.peak_mb:.0f} MB at {given.large}; "
                        f"{(large.peak_mb - small.peak_mb) / (given.large - SMALL) * 1e3:.1f} KB for each prompt; "
                        f"{wall:.1f} s, {wall / (math.ceil(given.large / IN_FLIGHT) * LATENCY_S):.2f} times the ideal")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
