"""What is right, without exact duplicates, laid out as messages: 100,000 traces from a file of JSON lines to another
one, beside the library `datasets` (load, filter, filter by a set of hashes, map, to_json).

    python -m benchmarks.data_transform [--traces 100000] [--peer-python P] [--busy]

Two ways of ours: all of it from the file on (import into the store, select, write out: what a person does once),
and what follows the import (select and write out: what a person repeats with other filters). The peer, likewise, is
measured with its loading and without: what it loaded stays in its cache.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import machine
from benchmarks.data_rows import write_rows
from localdistill.safety.children import start

RECIPE = """name = "transform"
[traces.all]
stored = "true"
[[filter]]
use = "where"
condition = "published = 1"
[[filter]]
use = "duplicates"
"""
TARGET, TARGET_MEMORY = 5.0, 0.6


@dataclass
class Took:
    """What a process and its children took."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def __add__(self, other: Took) -> Took:
        return Took(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mb, other.peak_mb))

    def __str__(self) -> str:
        return f"{self.wall_s:.2f} s, {self.cpu_s:.2f} s of CPU, peak {self.peak_mb:.0f} MB"


def took(*command: object, cwd: Path) -> tuple[Took, str]:
    """Run a command to its end."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = start([str(part) for part in command], stdout=out, stderr=err, cwd=cwd)
        process, peak, living = psutil.Process(child.pid), 0.0, dict[int, float]()
        while child.poll() is None:
            try:
                for one in (process, *process.children(recursive=True)):
                    times = one.cpu_times()
                    living[one.pid] = times.user + times.system
                family = [process, *process.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in family) / 1e6)
            except psutil.Error:
                pass
            time.sleep(0.02)
        ended = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        said = out.read().decode()
        if child.returncode:
            raise SystemExit(f"{command[0]} ended with {child.returncode}: {err.read().decode()[-2000:]}")
    return Took(ended, sum(living.values()), peak), said


def ours(file: Path, folder: Path) -> tuple[Took, Took, int]:
    """The import, what follows it, and the rows that came out."""
    ld = (sys.executable, "-m", "localdistill")
    first, _ = took(*ld, "import", file, "--yes", "--json", "-w", folder, cwd=folder)
    (folder / "transform.toml").write_text(RECIPE)
    select, _ = took(*ld, "select", "transform.toml", "--json", "-w", folder, cwd=folder)
    out, said = took(*ld, "data", "export", "out.jsonl", "--run", "last", "--set", "all", "--json", "-w", folder,
                     cwd=folder)
    return first, select + out, int(json.loads(said)["rows"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with `datasets`")
    given = parser.parse_args()
    machine.describe(["duckdb", "pyarrow"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        file = folder / "rows.jsonl"
        size = write_rows(file, given.traces)
        (folder / "w").mkdir()
        brought, after, rows = ours(file, folder / "w")
        machine.say(f"{given.traces:,} rows, {size / 1e6:.0f} MB; ours: {rows:,} rows came out")
        machine.say(f"  import: {brought}\n  select and export: {after}")
        if given.peer_python:
            script = Path(__file__).with_name("data_peer_datasets.py")
            whole, said = took(given.peer_python, script, file, folder / "peer.jsonl", folder / "cache", cwd=folder)
            again, _ = took(given.peer_python, script, file, folder / "peer.jsonl", folder / "cache", cwd=folder)
            machine.say(f"datasets: {json.loads(said)} came out\n  with loading: {whole}\n  once loaded: {again}")
            both = brought + after
            machine.say(f"all of it: {whole.wall_s / both.wall_s:.2f}x, by CPU {whole.cpu_s / both.cpu_s:.2f}x; once "
                        f"loaded: {again.wall_s / after.wall_s:.2f}x, by CPU {again.cpu_s / after.cpu_s:.2f}x; target "
                        f"{TARGET}x; memory {both.peak_mb / whole.peak_mb:.2f}, target {TARGET_MEMORY}")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
