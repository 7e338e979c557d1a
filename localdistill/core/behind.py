"""Work that goes on behind other work: one piece at a time in a second thread, in the order in which it was given. What
waits for disks, compresses or runs in a library lets the first thread go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

Piece = Callable[[], None]


@contextmanager
def one_behind() -> Iterator[Callable[[Piece], None]]:
    """A function that hands over a piece of work, once the one before is done: at most one goes on behind. An error of
    a piece is raised at the next one or at the end of the block; what comes behind it is not begun. Where the block
    itself fails, the piece that goes on is waited for, and its error is left for that of the block."""
    with ThreadPoolExecutor(1, "behind") as thread:
        going: Future[None] | None = None

        def hand_over(piece: Piece) -> None:
            nonlocal going
            before, going = going, None
            if before is not None:
                before.result()
            going = thread.submit(piece)

        yield hand_over
        if going is not None:
            going.result()
