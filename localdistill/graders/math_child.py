"""The process that judges mathematics: one JSON object per line in, one per line out.

sympy can run for minutes or eat all memory on a short hostile string, so all of it happens here, where the parent
(`math.py`) may kill it at any moment. Nothing in this file may be imported for its effects, and nothing here
enforces the wall clock: the limits below only make sure that an orphan cannot live on.
"""

from __future__ import annotations

import json
import logging
import sys

from localdistill.graders.base import SHOWN_CHARS
from localdistill.graders.judging import Ruling, judge
from localdistill.graders.rules import RuleName

_MEMORY_BYTES = 4 << 30


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Cap memory once and CPU time for the next item, where the system knows how to."""
    try:
        import resource

        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        if cpu_s:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + cpu_s, hard))
    except (ImportError, ValueError, OSError):
        return


def main() -> None:
    """Answer lines until standard input closes."""
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(2_000)
    _limit(_MEMORY_BYTES, 0)
    for line in sys.stdin.buffer:
        item = json.loads(line)
        if not item:
            import math_verify  # noqa: F401  (loaded before the clock of the first answer runs)

            print("{}", flush=True)
            continue
        _limit(0, int(item["timeout_s"]) * 2 + 5)
        try:
            verdict = judge(item["question"], item["reference"], item["answer"], item["decimals"])
        except (Exception, RecursionError, MemoryError) as error:
            verdict = Ruling(None, (RuleName.NO_VERDICT,), f"cannot be judged ({type(error).__name__})")
        said = {"score": verdict.score, "reason": verdict.reason, "extracted": verdict.extracted[:SHOWN_CHARS]}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
