"""What a person says of traces, one change after the other, each with the way back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from localdistill import Judged, LocalDistillError, put_judgement
from tui.text import line
from tui.ui import Ui


class Judging:
    """Changes in the order in which they were asked for, and what they were before."""

    def __init__(self, ui: Ui, changed: Callable[[str], None], failed: Callable[[LocalDistillError], None]) -> None:
        """changed: told the id of each trace of which something else is said now. failed: told why a change was
        refused."""
        self._ui, self._changed, self._failed = ui, changed, failed
        self._waiting: deque[tuple[Callable[[], Judged | None], bool]] = deque()
        self._is_busy = False
        self._back: list[Judged] = []
        """The changes that can be taken back, the newest last; used in one thread at a time."""

    def say(self, change: Callable[[], Judged]) -> None:
        """Change something, behind what is under way."""

        def work() -> Judged:
            done = change()
            if done.before != done.after:
                self._back.append(done)
            return done

        self._then(work, False)

    def undo(self) -> None:
        """Take back the last change that was not taken back yet."""

        def work() -> Judged | None:
            if not self._back:
                return None
            last = self._back[-1]
            done = put_judgement(self._ui.workspace, last.trace_id, last.before)
            self._back.pop()
            return done

        self._then(work, True)

    def _then(self, work: Callable[[], Judged | None], is_undone: bool) -> None:
        self._waiting.append((work, is_undone))
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            work, is_undone = self._waiting.popleft()
            self._ui.jobs.do(work, lambda done: self._done(done, is_undone), failed=self._refused)

    def _done(self, done: Judged | None, is_undone: bool) -> None:
        self._next()
        if done is None:
            self._ui.notify("there is nothing to take back", markup=False)
            return
        if is_undone or done.before.note != done.after.note:  # what rows do not show
            text = line(done.after.text) or "nothing is said of it"
            self._ui.notify(f"{line(done.trace_id, 13)}: {text}", markup=False)
        self._changed(done.trace_id)

    def _refused(self, error: LocalDistillError) -> None:
        self._next()
        self._failed(error)
