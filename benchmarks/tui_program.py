"""The terminal UI: start to first paint, from a key to the repaint while a run reports at full rate, memory after an
hour of a run, and CPU while nothing happens.

The program runs in a pseudo-terminal of its own; times are what somebody in front of it sees. The run is made up: its
facts are written as fast as a real one's, and for the hour as many as a real one's, in less time.

    python benchmarks/tui_program.py [--busy] [--repeats N]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import select
import shutil
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import add_arguments, check_idle, describe, say
from localdistill import RunFolder, Workspace, parse_recipe
from localdistill.safety.children import PIPE, start

RECIPE = ('name = "busy"\n[prompts]\nfiles = ["q.jsonl"]\n[teacher]\nuse = "openai_compatible"\n'
          'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n')
SIZE = (120, 40)
STATUS_EVERY_S = 0.1
FACTS_PER_S = 20
"""Curves of a training at ten steps per second, two names of each step."""
HOUR_FACTS = 3600 * FACTS_PER_S


class Program:
    """The UI on a pseudo-terminal."""

    def __init__(self, workspace: Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        shows = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.began = time.perf_counter()
        self.process = start([sys.executable, "-c", "from localdistill.cli import main; main()", "tui"], shows,
                             stdin=slave, stdout=slave, stderr=slave, cwd=workspace, start_new_session=True)
        os.close(slave)

    def read(self, wait_s: float) -> bytes:
        """What comes within `wait_s`."""
        ready, _, _ = select.select([self.master], [], [], wait_s)
        try:
            return os.read(self.master, 1 << 16) if ready else b""
        except OSError:
            return b""

    def until(self, wanted: bytes, timeout_s: float = 60.0) -> float:
        """Read until `wanted` was written; the moment."""
        seen, deadline = b"", time.perf_counter() + timeout_s
        while wanted not in seen:
            seen = seen[-200:] + self.read(0.05)
            if time.perf_counter() > deadline:
                raise SystemExit(f"the program never wrote {wanted!r}")
        return time.perf_counter()

    def drain(self, seconds: float) -> None:
        """Read for so long."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            self.read(left)

    def quit(self) -> None:
        """End it."""
        os.write(self.master, b"\x11")
        until = time.perf_counter() + 15
        while self.process.poll() is None and time.perf_counter() < until:
            self.read(0.1)
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@contextmanager
def workspace() -> Iterator[Path]:
    """An empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="tui-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class MadeUpRun:
    """A run that reports and does nothing else."""

    def __init__(self, root: Path) -> None:
        self.run = RunFolder.create(Workspace(root).runs, parse_recipe(RECIPE), RECIPE, {
            "stages": ["collect", "train"], "base": str(root)})
        self._lock = self.run.hold()
        self.events = open(self.run.path / "events.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.step = 0
        self.fact(kind="run_started", run_id=self.run.id, recipe="busy", stages=["collect", "train"])
        self.fact(kind="stage_started", stage="train")
        self.status()

    def fact(self, **fact: Any) -> None:
        """One fact."""
        self.events.write(json.dumps({"at": time.time(), **fact}) + "\n")

    def facts(self, count: int) -> None:
        """So many points of curves, with a note now and then."""
        for _ in range(count // 2):
            self.step += 1
            self.fact(kind="measured", stage="train", name="loss", value=random.random(), step=self.step, arm="a")
            self.fact(kind="measured", stage="train", name="tokens_per_s", value=9e3, step=self.step, arm="a")
            if self.step % 50 == 0:
                self.fact(kind="noted", stage="train", text=f"checkpoint of step {self.step}, held in a file")
        self.events.flush()

    def status(self) -> None:
        """Where it is, with the end of a text that a model writes."""
        self.run.write_status({
            "state": "running", "recipe": "busy", "pid": 1, "stage": "train", "label": "training", "done": self.step,
            "total": 40_000, "unit": "steps", "counters": {"tokens": 900.0 * self.step}, "latest": {},
            "tail": f"thinking about step {self.step} " * 40, "tail_of": "m"})

    def report(self, stop: threading.Event) -> None:
        """Report at full rate until told to stop."""
        while not stop.wait(STATUS_EVERY_S):
            self.facts(int(FACTS_PER_S * STATUS_EVERY_S))
            self.status()

    def close(self) -> None:
        """The run's process is gone."""
        self.events.close()
        self._lock.close()


def first_paint(repeats: int) -> None:
    """Start to first paint, and what was imported until then."""
    times = []
    with workspace() as folder:
        for _ in range(max(5, repeats)):
            program = Program(folder)
            times.append(program.until(b"localdistill") - program.began)
            program.drain(0.5)
            program.quit()
    say(f"start to first paint: median {statistics.median(times[1:]):.3f} s, worst {max(times[1:]):.3f} s "
        f"(first, cold: {times[0]:.3f} s); target under 0.5 s")
    script = ("import sys, tui.app\nfrom tui.screens import load\nload('home')\n"
              "print([m for m in ('torch', 'transformers', 'llama_cpp', 'duckdb', 'numpy') if m in sys.modules])")
    with start([sys.executable, "-c", script], stdout=PIPE) as child:
        heavy = child.communicate()[0].decode().strip() or "unknown: the import failed"
    say(f"heavy packages imported by then: {heavy}; target none")


def key_to_repaint(presses: int = 60) -> None:
    """From pressing the key of a screen to its title, while a run reports."""
    with workspace() as folder:
        run, stop = MadeUpRun(folder), threading.Event()
        run.facts(5000)
        reporter = threading.Thread(target=run.report, args=(stop,))
        reporter.start()
        program = Program(folder)
        program.until(b"localdistill")
        screens = {b"7": b" Train ", b"r": b" Runs ", b"3": b" Collect "}
        for key, title in screens.items():
            program.drain(1.0)
            os.write(program.master, key)
            program.until(title)
        program.drain(2.0)
        times = []
        for number in range(presses):
            key, title = list(screens.items())[number % len(screens)]
            program.drain(random.uniform(0.1, 0.25))
            pressed = time.perf_counter()
            os.write(program.master, key)
            times.append(1000 * (program.until(title) - pressed))
        stop.set()
        reporter.join()
        program.quit()
        run.close()
    times.sort()
    say(f"key to repaint of another screen while a run reports: median {times[len(times) // 2]:.0f} ms, "
        f"95th percentile {times[int(0.95 * len(times))]:.0f} ms; target under 50 ms")


def memory_after_an_hour(minutes: float) -> None:
    """Memory of the UI before and after as many facts as a run of an hour reports, in `minutes`."""
    with workspace() as folder:
        run = MadeUpRun(folder)
        program = Program(folder)
        program.until(b"localdistill")
        os.write(program.master, b"7")
        program.drain(3.0)
        process = psutil.Process(program.process.pid)
        before = process.memory_info().rss
        parts = max(1, int(60 * minutes / STATUS_EVERY_S))
        for _ in range(parts):
            run.facts(HOUR_FACTS // parts)
            run.status()
            program.drain(STATUS_EVERY_S)
        program.drain(5.0)
        after = process.memory_info().rss
        program.quit()
        run.close()
    say(f"memory of an hour's {HOUR_FACTS:,} facts in {minutes:g} min: {before / 1e6:.0f} MB before, "
        f"{after / 1e6:.0f} MB after; target under 200 MB")


def idle_cpu(seconds: float = 15.0) -> None:
    """CPU while nothing happens."""
    with workspace() as folder:
        program = Program(folder)
        program.until(b"localdistill")
        program.drain(5.0)
        process = psutil.Process(program.process.pid)
        before = process.cpu_times()
        program.drain(seconds)
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        program.quit()
    say(f"idle: {100 * used / seconds:.2f} % of one core over {seconds:.0f} s; target under 1 %")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the simulated hour takes")
    chosen = parser.parse_args()
    describe(("textual", "rich", "localdistill"))
    check_idle(chosen.busy)
    first_paint(chosen.repeats)
    idle_cpu()
    key_to_repaint()
    memory_after_an_hour(chosen.minutes)


if __name__ == "__main__":
    main()
