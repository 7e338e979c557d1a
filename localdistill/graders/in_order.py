"""Judges many traces in a pool of threads, for graders whose verdicts come from child processes: in order, as many at a
time as there are children, and stopped between two."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.core.records import Fact, Prompt, Trace


def judged_in_order(judge: Callable[[Prompt, Trace], Fact], pairs: Iterable[tuple[Prompt, Trace]], at_once: int,
                    cancel: Cancel) -> Iterator[Fact]:
    """One verdict per pair, in the order of `pairs`, which is pulled lazily. Raises Cancelled between two items."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        waiting: deque[Future[Fact]] = deque()
        source = iter(pairs)
        try:
            while True:
                while len(waiting) < BORDERS.judged_ahead and (pair := next(source, None)) is not None:
                    waiting.append(pool.submit(judge, *pair))
                if not waiting:
                    return
                cancel.check()
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
