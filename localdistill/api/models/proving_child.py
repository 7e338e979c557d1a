"""The process of a proof, `python -m localdistill.api.models.proving_child`, and who starts it: native libraries that
crash there take nobody with them, and what was made is removed whatever happens. JSON lines both ways: the student and
a folder in, progress and findings out."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from localdistill.api.models.doctor import Finding
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, Emit, Event, Progressed
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.runs.device_queue import TRAINING, Ticket, using
from localdistill.runs.device_turns import any_device
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild, serve
from localdistill.safety.scratch import scratch_folder
from localdistill.workspace.folder import Workspace

SHIPPED = "shipped:pantry/student"
_POLL_S = 0.2


def prove_training(workspace: Workspace, student: str, emit: Emit, cancel: Cancel) -> Iterator[Finding]:
    """One finding per link of the chain from rows to GGUF, for `student` (a folder, `shipped:NAME` or hf://; empty: the
    one that ships), as each is tried; the first that breaks is the last. Takes disk in the workspace meanwhile: about
    three times the student. ModelFileError when there is no such student, Cancelled when asked to."""
    folder = resolve_model(student or SHIPPED)
    workspace.root.mkdir(parents=True, exist_ok=True)
    device = any_device(look_at_hardware())
    with using(device, TRAINING, "doctor --train", str(workspace.root)) as ticket, \
            scratch_folder(workspace.root) as scratch:
        if ticket is not None:
            _wait(ticket, emit, cancel)
        child = JsonChild("localdistill.api.models.proving_child")
        try:
            child.send({"student": str(folder.resolve()), "folder": str(scratch)})
            yield from _told(child, emit, cancel)
        except ChildDied as death:
            yield Finding("process", "wrong", f"it {death}: {(death.log.strip().splitlines() or ['no word'])[-1]}",
                          "localdistill doctor says what is missing; a smaller student takes less memory")
        finally:
            child.kill()


def _wait(ticket: Ticket, emit: Emit, cancel: Cancel) -> None:
    """A proof trains: it takes its turn."""
    while (ahead := ticket.ahead()) is not None:
        cancel.check()
        emit(Progressed(f"waits for {ahead.told}", 0, 0))
        time.sleep(_POLL_S)


def _told(child: JsonChild, emit: Emit, cancel: Cancel) -> Iterator[Finding]:
    while True:
        cancel.check()
        try:
            told = child.receive(_POLL_S)
        except ChildTimeout:
            continue
        if "end" in told:
            return
        if "finding" in told:
            yield Finding(**told["finding"])
        else:
            emit(Progressed(told["label"], told["done"], told["total"], told["unit"]))


def main() -> None:
    """One proof, as the first line asks."""
    from localdistill.api.models.proving import Proof

    pipe = serve()
    lock = threading.Lock()

    def say(event: Event) -> None:
        if isinstance(event, Progressed):
            with lock:
                pipe.write({"label": event.label, "done": event.done, "total": event.total, "unit": event.unit})

    for asked in pipe:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            for finding in Proof(Path(asked["student"]), Path(asked["folder"]), say, Cancel()).findings():
                pipe.write({"finding": dataclasses.asdict(finding)})
        except LocalDistillError as error:
            pipe.write({"finding": dataclasses.asdict(Finding("proof", "wrong", error.message, error.hint))})
        pipe.write({"end": True})


if __name__ == "__main__":
    main()
