"""Runs llama_child and turns every way in which it can end into a result or one clear error."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, MissingExtra
from localdistill.core.events import Cancel
from localdistill.safety.children import NOTHING, Process, describe_exit, ends_within, start_module
from localdistill.safety.scratch import scratch_folder

_POLL_S = 0.1
_KEPT_LINES = 3
_QUIET_WAITING = {"OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}
_SMALL_BYTES = 200_000_000


class ChildKilled(LocalDistillError):
    """The system ended llama.cpp's process, as it does when memory runs out."""


def run_llama(job: dict[str, Any], what: str, cancel: Cancel) -> dict[str, Any]:
    """The result of `job` (see llama_child), whose notes lie beside its files meanwhile. `what` names the work in the
    error. Ends the child on a cancel."""
    _require_llama()
    with scratch_folder(Path(job.get("output") or job["model"]).parent) as folder:
        job_file, result_file, log_file = (folder / name for name in ("job.json", "result.json", "log.txt"))
        job_file.write_text(json.dumps(job | {"result": str(result_file)}), encoding="utf-8")
        with log_file.open("wb") as log:
            child = start_module("localdistill.exporters.gguf_parts.llama_child", str(job_file),
                                 environment=_QUIET_WAITING, stdin=NOTHING, stdout=log, stderr=log)
            code = _wait(child, cancel)
        if code != 0 or not result_file.is_file():
            kind = ChildKilled if code == -signal.SIGKILL else LocalDistillError
            raise kind(f"{what} failed: {_ending(code, log_file)}", "is there enough memory and disk space?")
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        if result.get("code", 0) != 0:
            raise LocalDistillError(f"{what} failed: {_ending(result['code'], log_file)}",
                                    "is there enough disk space?")
        return result


def default_threads(size_bytes: int) -> int:
    """Threads for a file of this size: one for small ones (its threads spin while they wait), else at most 8."""
    return 1 if size_bytes < _SMALL_BYTES else min(8, os.cpu_count() or 1)


def _require_llama() -> None:
    from importlib.util import find_spec

    if find_spec("llama_cpp") is None:
        raise MissingExtra.of("llama", "llama-cpp-python")


def _wait(child: Process, cancel: Cancel) -> int:
    try:
        while not ends_within(child, _POLL_S):
            cancel.check()
        return child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise


def _ending(code: int, log_file: Path) -> str:
    lines = [line for line in log_file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "; ".join([f"llama.cpp's process ended with {describe_exit(code)}",
                      *(line.strip() for line in lines[-_KEPT_LINES:])])
