"""The one door to the hub: a process of its own (`child.py`), which alone is given the hub's key and the way through a
proxy. It can be stopped in the middle of a file, and tells how far it is."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from localdistill.core.errors import MissingExtra
from localdistill.core.events import Cancel, Emit, Progressed
from localdistill.hub.names import is_commit
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild, is_offline_by_choice

ENDPOINT = "https://huggingface.co"
SECRETS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY",
           "https_proxy", "http_proxy", "all_proxy")
"""What opens the way to the hub: its key, and proxies, whose addresses may hold a password."""
_POLL_S, _WAIT_S = 0.5, "60"
"""Between looks at a cancel; and as long as the hub may say nothing in the middle of a file, in seconds."""


class HubProblem(Exception):
    """The hub does not give what was asked for. `kind` is a word of `child.py`; `figures` go with it."""

    def __init__(self, kind: str, **figures: Any) -> None:
        super().__init__(kind)
        self.kind, self.figures = kind, figures

    @property
    def text(self) -> str:
        """What the library said, where it said anything."""
        return str(self.figures.get("text") or self.kind)


def cache_folder() -> Path:
    """Where files of the hub lie: the cache that other programs use too."""
    if stated := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(stated).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def snapshot(kind: Literal["models", "datasets"], repository: str, revision: str) -> Path | None:
    """The folder in the cache that a revision means; a branch what it meant when it was fetched last, empty the newest.
    None where there is none."""
    place, commit = cache_folder() / f"{kind}--{repository.replace('/', '--')}", revision
    if not is_commit(commit):
        try:
            commit = (place / "refs" / (commit or "main")).read_text().strip()
        except (OSError, ValueError):
            return None
    folder = place / "snapshots" / commit
    return folder if is_commit(commit) and folder.is_dir() else None


class Hub:
    """The process that asks, started by the first request and again after it died. A context; not for two threads."""

    def __init__(self) -> None:
        self._child: JsonChild | None = None

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, request: Mapping[str, Any], what: str, emit: Emit, cancel: Cancel,
            said: Callable[[dict[str, Any]], None] = lambda told: None) -> dict[str, Any]:
        """Let the process do what `request` says (see `child.py`) and return what it told at the end; bytes that come
        are told as the progress of `what`. said: gets what it tells on the way beside that.

        Raises HubProblem (kind "offline": the user forbids the network), MissingExtra, Cancelled."""
        if is_offline_by_choice():
            raise HubProblem("offline")
        if importlib.util.find_spec("huggingface_hub") is None:
            raise MissingExtra.of("hub", "huggingface_hub")
        try:
            return self._answer(request, what, emit, cancel, said)
        except ChildDied as death:
            self._end()
            raise HubProblem("network", text=f"the process that fetches it ended: {death!s}") from None
        except BaseException:
            self._end()
            raise

    def _answer(self, request: Mapping[str, Any], what: str, emit: Emit, cancel: Cancel,
                said: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        if self._child is None:
            environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DOWNLOAD_TIMEOUT": _WAIT_S}
            self._child = JsonChild("localdistill.hub.child", environment=environment, secrets=SECRETS,
                                    is_offline=False)
        self._child.send({"cache": str(cache_folder()), "endpoint": os.environ.get("HF_ENDPOINT") or ENDPOINT,
                          **request})
        while True:
            cancel.check()
            try:
                told = self._child.receive(_POLL_S)
            except ChildTimeout:
                continue
            if "problem" in told:
                raise HubProblem(told.pop("problem"), **told)
            if told.get("is_last"):
                return told
            if "done" in told:
                emit(Progressed(f"fetching {what}", told["done"], told["total"], "bytes"))
            else:
                said(told)

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
