"""Judges many traces in a pool of threads, for graders whose verdicts come from child processes: as many at a time as
there are children, and stopped between two. A verdict is handed on when it is there, so that a slow answer holds up
nobody but its own child."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.core.records import Fact, Prompt, Trace


def judged_at_once(judge: Callable[[Prompt, Trace], Fact], pairs: Iterable[tuple[Prompt, Trace]], at_once: int,
                   cancel: Cancel) -> Iterator[Fact]:
    """One verdict per pair, in the order in which they come; `pairs` is pulled lazily. Raises Cancelled between two
    items."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        waiting: set[Future[Fact]] = set()
        source = iter(pairs)
        try:
            while True:
                while len(waiting) < BORDERS.judged_ahead and (pair := next(source, None)) is not None:
                    waiting.add(pool.submit(judge, *pair))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    cancel.check()
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()
