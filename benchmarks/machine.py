"""What every benchmark needs to be honest: the state of the machine, interleaved repeats, and a ratio with its spread.

Both sides run in the order A B B A, several times, so that a machine that becomes slower hits both. A benchmark refuses
to start on a busy machine unless it is told to, and then says so beside its figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from localdistill.modelfiles.hardware import processor

MOST_LOAD_PER_CORE = 0.3


def say(text: str) -> None:
    """One line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks have."""
    parser.add_argument("--repeats", type=int, default=3, help="rounds of A B B A")
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")


def describe(packages: Sequence[str]) -> None:
    """Print processor, memory and versions."""
    memory = psutil.virtual_memory()
    say(f"machine: {processor()}, {psutil.cpu_count(logical=False)} cores, {memory.total / 1e9:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    say("versions: " + ", ".join(f"{name} {_version(name)}" for name in packages))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def check_idle(allowed: bool) -> None:
    """Print the load; leave when other programs run, unless that is `allowed`."""
    others = psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or 1)
    say(f"load: {os.getloadavg()[0]:.2f} in the last minute, {others:.2f} cores busy now")
    if others > MOST_LOAD_PER_CORE * (psutil.cpu_count() or 1):
        if not allowed:
            raise SystemExit("other programs run: stop them, or add --busy and do not trust the figures")
        say("WARNING: other programs run; these figures are not to be trusted")


@dataclass(frozen=True)
class Sample:
    """One run of one side."""

    wall_s: float
    cpu_s: float
    """Of this process and its children."""


def timed(name: str, work: Callable[[], object]) -> Sample:
    """Run `work` once and print how long it took."""
    cpu, begin = _cpu_s(), time.perf_counter()
    work()
    sample = Sample(time.perf_counter() - begin, _cpu_s() - cpu)
    say(f"  {name}: {sample.wall_s:.2f} s, {sample.cpu_s:.2f} s of CPU, load {os.getloadavg()[0]:.2f}")
    return sample


def _cpu_s() -> float:
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


@dataclass(frozen=True)
class Comparison:
    """Two sides, measured in turns."""

    peer: list[Sample]
    ours: list[Sample]

    def ratio(self) -> float:
        """How many times faster ours was: the median of the peer's wall times through the median of ours."""
        peer: float = statistics.median(s.wall_s for s in self.peer)
        return peer / statistics.median(s.wall_s for s in self.ours)

    def spread(self) -> tuple[float, float]:
        """Smallest and largest ratio of the pairs that ran beside each other."""
        ratios = [peer.wall_s / ours.wall_s for peer, ours in zip(self.peer, self.ours)]
        return min(ratios), max(ratios)

    def report(self, what: str, target: str, tokens: int) -> None:
        """Print both sides and the ratio."""
        for name, samples in (("peer", self.peer), ("ours", self.ours)):
            wall, cpu = (statistics.median(getattr(s, field) for s in samples) for field in ("wall_s", "cpu_s"))
            say(f"  {name}, median: {wall:.2f} s, {tokens / wall:.1f} new tokens/s, {cpu:.2f} s of CPU")
        low, high = self.spread()
        say(f"{what}: {self.ratio():.2f}x (pairs {low:.2f} to {high:.2f}); target {target}")


def compare(peer: Callable[[], object], ours: Callable[[], object], repeats: int) -> Comparison:
    """A B B A `repeats` times. What has to be warm must be so before."""
    found = Comparison([], [])
    for _ in range(repeats):
        found.peer.append(timed("peer", peer))
        found.ours.append(timed("ours", ours))
        found.ours.append(timed("ours", ours))
        found.peer.append(timed("peer", peer))
    return found
