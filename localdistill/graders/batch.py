"""Grades many traces with one grader: in order, on as many threads as the grader has processes, cancellable.

It knows no grader; a grader that judges in child processes says so with an attribute `concurrency`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.core.records import Grade, Prompt, Trace
from localdistill.graders.base import Grader

_AHEAD = 64
"""Items handed out beyond the one that is yielded next: enough to keep all children busy, small enough to stop soon."""
_REPORT_EVERY = 100


def grade_many(grader: Grader, pairs: Iterable[tuple[Prompt, Trace]], emit: Emit, cancel: Cancel,
               total: int = 0) -> Iterator[Grade]:
    """One grade per pair, in the order of `pairs`, which is pulled lazily. Emits `Progressed` (stage `grade`, unit
    `traces`; `total` 0 = unknown). Raises Cancelled between two items. Does not close the grader."""
    done = 0
    with ThreadPoolExecutor(max_workers=getattr(grader, "concurrency", 1)) as pool:
        waiting: deque[Future[Grade]] = deque()
        source = iter(pairs)
        try:
            while True:
                while len(waiting) < _AHEAD and (pair := next(source, None)) is not None:
                    waiting.append(pool.submit(grader.grade, *pair))
                if not waiting:
                    break
                cancel.check()
                yield waiting.popleft().result()
                done += 1
                if done % _REPORT_EVERY == 0:
                    emit(Progressed(grader.name, done, total, "traces"))
        finally:
            for future in waiting:
                future.cancel()
    emit(Progressed(grader.name, done, total or done, "traces"))
