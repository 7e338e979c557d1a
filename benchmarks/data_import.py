"""How fast traces come in for good, and what they take on disk: the whole command `localdistill import` on a file of
100,000 rows, beside rows put into DuckDB one by one (`executemany`); the store beside the file, also of real traces.

    python -m benchmarks.data_import [--traces 100000] [--real FILE ...] [--busy]

The command is a process of its own, from its start to its end: the rows are in the store and their copy in a journal,
both on disk. `executemany` gets the same texts in transactions of 1,000 rows, and fewer of them, since it takes long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import islice
from pathlib import Path

import duckdb
import psutil

from benchmarks import machine
from benchmarks.data_rows import write_rows
from localdistill import Workspace
from localdistill.safety.children import NOTHING, start_module

PEER_ROWS = 3_000
TARGET_PER_S, TARGET_RATIO, TARGET_SIZE = 15_000, 25, 0.40


def import_whole(file: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and peak MB of the command."""
    began = time.perf_counter()
    child = start_module("localdistill", "import", str(file), "-w", str(folder), "--json", "--yes", stdout=NOTHING,
                         stderr=NOTHING)
    process, peak, cpu = psutil.Process(child.pid), 0.0, 0.0
    while child.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(one.memory_info().rss for one in family) / 1e6)
            cpu = max(cpu, sum(one.cpu_times().user + one.cpu_times().system for one in family))
        except psutil.Error:
            pass
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"the import ended with {child.returncode}")
    return time.perf_counter() - began, cpu, peak


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the store, and of the journals that it could be made again from."""
    store = Workspace(folder).store_path
    journals = sum(path.stat().st_size for path in (folder / "journals").rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in folder.glob(f"{store.name}*")), journals


def put_one_by_one(file: Path, folder: Path) -> tuple[float, float]:
    """Rows per second, and per second of processor time, by `executemany`."""
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, PEER_ROWS)]
    texts = [(number, row["messages"][0]["content"], row["messages"][1]["reasoning_content"],
              row["messages"][1]["content"], row["reference"]) for number, row in enumerate(rows)]
    with duckdb.connect(str(folder / "peer.duckdb")) as con:
        con.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, question VARCHAR, reasoning VARCHAR, answer VARCHAR, "
                    "reference VARCHAR)")
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(texts), 1000):
            con.execute("BEGIN")
            con.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", texts[start:start + 1000])
            con.execute("COMMIT")
        return len(texts) / (time.perf_counter() - began), len(texts) / (time.process_time() - cpu)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--real", type=Path, nargs="*", default=(), help="files of real traces, for the size")
    given = parser.parse_args()
    machine.describe(["duckdb", "pyarrow"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size = write_rows(folder / "rows.jsonl", given.traces)
        wall, cpu, peak = import_whole(folder / "rows.jsonl", folder / "w")
        store, journals = sizes(folder / "w")
        machine.say(f"{given.traces:,} rows, {size / 1e6:.0f} MB: {wall:.1f} s, {cpu:.1f} s CPU, peak {peak:.0f} MB: "
                    f"{given.traces / wall:,.0f} rows a second, {given.traces / cpu:,.0f} per CPU second; target "
                    f"{TARGET_PER_S:,}")
        machine.say(f"  store {store / size:.2f} of the file, journals {journals / size:.2f}; target {TARGET_SIZE}")
        peer, peer_cpu = put_one_by_one(folder / "rows.jsonl", folder)
        machine.say(f"executemany: {peer:,.0f} rows a second, {peer_cpu:,.0f} per CPU second; ours "
                    f"{given.traces / wall / peer:.1f}x, by CPU {given.traces / cpu / peer_cpu:.1f}x; target "
                    f"{TARGET_RATIO}x")
        for place, file in enumerate(given.real):
            import_whole(file, folder / f"real-{place}")
            store, journals = sizes(folder / f"real-{place}")
            size = file.stat().st_size
            machine.say(f"{file.name}, {size / 1e6:.1f} MB: store {store / size:.2f} of the file, journals "
                        f"{journals / size:.2f}; target {TARGET_SIZE}")
        if len(given.real) > 1:
            for file in given.real:
                import_whole(file, folder / "all")
            store, journals = sizes(folder / "all")
            size = sum(file.stat().st_size for file in given.real)
            machine.say(f"all of them, {size / 1e6:.1f} MB: store {store / size:.2f} of the files, journals "
                        f"{journals / size:.2f}; target {TARGET_SIZE}")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
