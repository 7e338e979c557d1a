"""Workers on the job: cases go out, endings come back, and a worker that dies or hangs is a bad ending and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.attack import shim
from tests.attack.kind import Ending
from tests.attack.kinds import kind_called
from tests.attack.victim import Victim
from tests.helpers import REPO

PATIENCE_S = 300.0
"""A case of one process that takes longer hangs."""
PATIENCE_OF_PROCESSES_S = 600.0


@dataclass(frozen=True)
class Case:
    """One attack."""

    kind: str
    number: int


@dataclass(frozen=True)
class Done:
    """What it ended as."""

    case: Case
    ending: Ending
    seconds: float


class Worker:
    """One process that attacks, started when the first case comes."""

    def __init__(self, victim: Victim, folder: Path, seed: int) -> None:
        self._victim, self._folder, self._seed = victim, folder, seed
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, case: Case) -> Done:
        """One case from end to end."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        line = json.dumps({"seed": self._seed, "kind": case.kind, "number": case.number}) + "\n"
        patience_s = PATIENCE_OF_PROCESSES_S if kind_called(case.kind).is_of_processes else PATIENCE_S
        answer = b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line.encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], patience_s)
            answer = process.stdout.readline() if ready else b"hangs"
        if answer.startswith(b"{"):
            data = json.loads(answer)
            return Done(case, Ending(data["how"], data["what"], data["said"]), data["seconds"])
        said = f"no end after {patience_s:.0f} s" if answer == b"hangs" else ""
        self.close()
        said = said or f"the process of the attack died with code {process.returncode}: {self._last_words()}"
        return Done(case, Ending("bad", "the process", said), patience_s)

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.attack.worker", str(self._victim.folder), str(self._victim.port),
             str(self._folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO, env={**os.environ, **shim.environment()})

    def _last_words(self) -> str:
        log = self._folder / "output.txt"
        return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) if log.is_file() else ""

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def work(victim: Victim, folder: Path, seed: int, cases: Sequence[Case], workers: int,
         is_over: Callable[[], bool] = lambda: False) -> Iterator[Done]:
    """Do the cases on so many workers; endings as they come. is_over: asked before each; none is begun after it said
    so."""
    waiting: Queue[Case | None] = Queue()
    done: Queue[Done | None] = Queue()
    for case in [*cases, *([None] * workers)]:
        waiting.put(case)

    def attend(number: int) -> None:
        worker = Worker(victim, folder / f"worker-{number}", seed)
        try:
            while not is_over() and (case := waiting.get()) is not None:
                done.put(worker.do(case))
        finally:
            worker.close()
            done.put(None)

    threads = [threading.Thread(target=attend, args=(number,), daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    running = workers
    while running:
        ended = done.get()
        if ended is None:
            running -= 1
        else:
            yield ended
