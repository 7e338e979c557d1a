"""All work that takes longer than a key press: every thread of the UI is started here, ends with its screen or the
app, and hands its result to the event loop. Runs are not started here but in processes of their own: this file only
watches them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from textual.app import App
from textual.css.query import NoMatches
from textual.worker import get_current_worker

from localdistill import LocalDistillError, RunFolder, RunListing, RunStatus, Workspace, explain, follow
from tui.state import RunView, reduce
from tui.ui import Ui

T = TypeVar("T")
LOOK_EVERY_S = 2.0
SHOW_EVERY_S = 0.1
TIDY_EVERY_S, QUIET_S = 30.0, 2.0


class Jobs:
    """The workers of one app."""

    def __init__(self, app: App[None], ui: Ui) -> None:
        """app: runs the workers. ui: is told what they saw."""
        self._app, self._ui = app, ui
        self._stop_following = threading.Event()

    def do(self, work: Callable[[], T], done: Callable[[T], None] | None = None, *, group: str = "",
           failed: Callable[[LocalDistillError], None] | None = None) -> None:
        """Run `work` in a thread, then `done(result)` in the event loop. In a `group` the newest work counts: the
        result of an older one is dropped. An error is shown as the app shows errors, or given to `failed`."""

        def body() -> None:
            worker = get_current_worker()
            try:
                result = work()
            except Exception as error:
                if not worker.is_cancelled:
                    self._app.call_from_thread(failed or self._ui.show_error, explain(error))
                return
            if done is not None and not worker.is_cancelled:
                self._app.call_from_thread(self._hand_over, done, result)

        self._app.run_worker(body, thread=True, group=group or "work", exclusive=bool(group), exit_on_error=False)

    @staticmethod
    def asked_to_stop() -> bool:
        """Asked inside `work` that takes long: True once nobody waits for its result."""
        return get_current_worker().is_cancelled

    def say(self, show: Callable[[T], None], what: T) -> None:
        """Called inside `work` that takes long: `show(what)` in the event loop, unless nobody waits any more."""
        if not self.asked_to_stop():
            self._app.call_from_thread(self._hand_over, show, what)

    def _hand_over(self, done: Callable[[T], None], result: T) -> None:
        """`done(result)`, in the event loop. The thread that waits for it would end with an error there, unheard."""
        try:
            done(result)
        except NoMatches:
            return  # what was to show it has been closed meanwhile
        except Exception as error:
            self._ui.show_error(explain(error))

    def watch_workspace(self, workspace: Workspace) -> None:
        """Look at the workspace's runs every two seconds and tell the app what changed."""

        def body() -> None:
            worker, before, told = get_current_worker(), None, ""
            listing = RunListing(workspace.runs)
            while not worker.is_cancelled:
                try:
                    runs = listing.look()
                except Exception as error:
                    problem = explain(error)
                    if problem.message != told:  # once; it looks again as long as the app lives
                        told = problem.message
                        self._app.call_from_thread(self._ui.show_error, problem)
                else:
                    key = tuple((run.run_id, run.state, run.stage, run.problem) for run in runs)
                    if key != before:
                        before = key
                        self._app.call_from_thread(self._hand_over, self._ui.runs_seen, runs)
                _sleep(LOOK_EVERY_S, lambda: worker.is_cancelled)

        self._app.run_worker(body, thread=True, group="workspace", exclusive=True, exit_on_error=False)

    def watch_run(self, folder: RunFolder) -> None:
        """Follow one run from its first fact on; the one followed before is let go."""
        self._stop_following.set()
        stop = self._stop_following = threading.Event()

        def body() -> None:
            worker, view, shown_at = get_current_worker(), RunView(folder.id), 0.0
            shown = view

            def show() -> None:
                nonlocal shown, shown_at
                if view is not shown and not stop.is_set():
                    shown, shown_at = view, time.monotonic()
                    self._app.call_from_thread(self._hand_over, self._ui.run_seen, view)

            def asked() -> bool:
                """Asked whenever nothing more is there to be read: what was held back is shown."""
                if not worker.is_cancelled:
                    show()
                return stop.is_set() or worker.is_cancelled

            try:
                for item in follow(folder, stop=asked):
                    view = reduce(view, item)
                    ends = isinstance(item, RunStatus) and not item.alive
                    if ends or time.monotonic() - shown_at >= SHOW_EVERY_S:
                        show()
            except Exception as error:
                if not (stop.is_set() or worker.is_cancelled):
                    self._app.call_from_thread(self._ui.show_error, explain(error))

        self._app.run_worker(body, thread=True, group="follow", exit_on_error=False)

    def tidy_when_quiet(self) -> None:
        """From now on look for garbage among everything only while nobody waits for an answer to a key: that takes as
        long as several pictures, and Python would do it in the middle of one."""
        gc.freeze()
        gc.set_threshold(*gc.get_threshold()[:2], 1_000_000)
        self._app.set_interval(TIDY_EVERY_S, self.tidy)

    def tidy(self) -> None:
        """Look for garbage if it is quiet."""
        if time.monotonic() - self._ui.used_at > QUIET_S:
            gc.collect()

    def stop(self) -> None:
        """Let every thread end; runs go on."""
        self._stop_following.set()
        self._app.workers.cancel_all()


def _sleep(seconds: float, ended: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not ended() and time.monotonic() < until:
        time.sleep(0.05)
