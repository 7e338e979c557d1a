"""What it costs that evidence is read before it is believed: all checksums of a finished run's artifacts and files,
each read once as the run reads them (what was read is remembered, so that no file is read twice), over the time that
the run took.

    python -m benchmarks.verifying WORKSPACE [--busy]

WORKSPACE holds a finished run, for example what `make demo` left.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

from benchmarks import machine
from localdistill import RunFolder, Workspace, verify_run
from localdistill.core.events import RunFinished

TARGET = 0.02
TIMES = 5


def duration_s(run: RunFolder) -> float:
    """How long the run worked, all its processes one after the other."""
    return sum(event.elapsed_s for event, _ in run.events() if isinstance(event, RunFinished))


def verifying_s(workspace: Workspace, run: RunFolder) -> tuple[float, int]:
    """Seconds of processor time to read everything of a run once, and how many bytes that is."""
    began = sum(os.times()[:2])
    found = verify_run(workspace, run.id)
    return sum(os.times()[:2]) - began, sum(one.size_bytes for one in found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    given = parser.parse_args()
    machine.describe(["duckdb"])
    machine.check_idle(given.busy)
    workspace = Workspace(given.workspace)
    run = RunFolder.open(workspace.runs, "last")
    if run.status().state != "finished":
        raise SystemExit(f"{run.id} is {run.status().state}: only of a finished run is known how long it took")
    taken = [verifying_s(workspace, run) for _ in range(TIMES)]
    median, size_bytes, whole_s = statistics.median(one for one, _ in taken), taken[0][1], duration_s(run)
    share = median / whole_s
    machine.say(f"  {run.id}: {size_bytes / 1e6:,.0f} MB read in {median:.2f} s of CPU (slowest "
                f"{max(one for one, _ in taken):.2f} s); the run took {whole_s:,.0f} s: {100 * share:.2f} %; target "
                f"{100 * TARGET:.0f} %: {'reached' if share <= TARGET else 'MISSED'}")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
