"""The long-lived child process that renders templates, shared by everybody in this process.

A render that takes too long is ended by killing the child; the next one gets a new child.
"""

from __future__ import annotations

import atexit
import hashlib
import threading
from collections.abc import Mapping
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild
from localdistill.templates.sandbox import TemplateFailure

RENDER_TIMEOUT_S = 2.0
_START_TIMEOUT_S = 30.0


class Renderer:
    """Renders templates in a child with limits. Safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: JsonChild | None = None
        self._known: set[str] = set()

    def render(self, source: str, context: Mapping[str, Any]) -> str:
        """The rendered text. Raises TemplateFailure for this template and context, and LocalDistillError when nothing
        can be rendered here."""
        with self._lock:
            child = self._running()
            key = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
            message: dict[str, Any] = {"key": key, "context": context}
            if key not in self._known:
                message["source"] = source
            try:
                child.send(message)
                answer = child.receive(RENDER_TIMEOUT_S)
            except ChildTimeout:
                self._drop()
                raise TemplateFailure(f"it did not finish within {RENDER_TIMEOUT_S:g} s") from None
            except ChildDied as death:
                self._drop()
                raise TemplateFailure(f"it ended its process: {death}") from None
            self._known.add(key)
        if "error" in answer:
            raise TemplateFailure(answer["error"])
        return str(answer["text"])

    def close(self) -> None:
        """End the child. The next render starts another."""
        with self._lock:
            self._drop()

    def _running(self) -> JsonChild:
        if self._child is None or not self._child.is_alive():
            self._drop()
            self._child = JsonChild("localdistill.templates.child")
            # The first answer waits for the interpreter to start, which the render's own limit must not pay for.
            self._child.send({"key": "", "source": "", "context": {}})
            try:
                self._child.receive(_START_TIMEOUT_S)
            except (ChildDied, ChildTimeout) as error:
                self._drop()
                raise LocalDistillError(f"the process that renders chat templates did not start: {error}",
                                        "is there enough memory?") from None
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child = None
        self._known.clear()


SHARED = Renderer()
atexit.register(SHARED.close)
