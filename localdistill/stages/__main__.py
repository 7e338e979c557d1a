"""The process of one stage: `python -m localdistill.stages RUN_FOLDER STAGE SEEDS [after-death]`. Started by the
supervisor only; its events go to the pipe named by LOCALDISTILL_EVENTS_FD, everything else that it or a library says
goes to the log."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, Event, Failed, Progressed, StageFinished, Streamed, stamped
from localdistill.core.explaining import explain
from localdistill.safety.children import given_secrets
from localdistill.safety.secrets import know, without_secrets
from localdistill.safety.text import display_safe
from localdistill.stages import STAGE_MODULES
from localdistill.stages.checking import check_at_start
from localdistill.stages.context import StageContext
from localdistill.stages.mending import mend
from localdistill.store import Store
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import AFTER_DEATH, EVENTS_FD_VARIABLE, RunFolder

OFFLINE = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}


PASSING_EVERY_S = 0.05


class Pipe:
    """Sends events to the supervisor; passing states at most twenty times a second of each kind."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._sent_at: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        """Send one event; when the supervisor is gone this process has no reason to live."""
        if isinstance(event, Progressed | Streamed):
            now = time.monotonic()
            is_last = isinstance(event, Progressed) and 0 < event.total <= event.done
            if now - self._sent_at.get(event.kind, 0.0) < PASSING_EVERY_S and not is_last:
                return
            self._sent_at[event.kind] = now
        data = without_secrets(json.dumps(event.to_json(), ensure_ascii=True)).encode() + b"\n"
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except BrokenPipeError:
                os._exit(1)


def _watch_supervisor(parent: int) -> None:
    """End this process group when the supervisor dies: a stage without one would work unseen."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, 9)


def main() -> int:
    """Run one stage; the exit code is that of its error."""
    run = RunFolder(Path(sys.argv[1]))
    stage = sys.argv[2]
    os.environ.update(OFFLINE)
    for secret in given_secrets():
        know(secret)
    threading.Thread(target=_watch_supervisor, args=(os.getppid(),), daemon=True).start()
    pipe = Pipe(int(os.environ.pop(EVENTS_FD_VARIABLE)))
    workspace = Workspace(run.path.parent.parent)
    started = time.monotonic()
    try:
        context = StageContext(
            workspace, run, run.recipe(), Store(workspace.store_path), stamped(pipe.emit, stage),
            Cancel(run.stop_asked), died_for_memory=AFTER_DEATH in sys.argv[4:],
            seeds=int(sys.argv[3]),
        )
        workspace.emit = context.emit
        context.take_in_journals()
        if stage == run.request()["stages"][0]:
            check_at_start(context)
        mend(context, stage)
        STAGE_MODULES.load(stage)(context)
    except BaseException as error:
        sys.stderr.write(display_safe(without_secrets(traceback.format_exc())))
        told = explain(error)
        more = "" if isinstance(error, LocalDistillError) else f"; the whole story is in {run.log.name} of run {run.id}"
        pipe.emit(Failed(stage, told.message, told.hint + more, told.exit_code))
        return told.exit_code
    pipe.emit(StageFinished(stage, time.monotonic() - started, context.reused_all))
    return 0


if __name__ == "__main__":
    sys.exit(main())
