"""Supervises the native child: starts it, survives its death, and finds out which request killed it.

After a crash the requests that were in flight are asked again one at a time; the one that kills the child alone is
given back as crashed, all others are answered as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from localdistill.core.errors import EngineUnavailable, MissingExtra, ModelFileError
from localdistill.core.events import Cancel
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.matrix_units import can_hide
from localdistill.engines.llama_cpp_native.model import LoadSettings
from localdistill.engines.llama_cpp_native.sequence import NativeRequest
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild

_MODULE = "localdistill.engines.llama_cpp_native.child"
_LISTEN_S = 0.2
_DROP_TIMEOUT_S = 10.0
_MOST_IDLE_CRASHES = 3

Outcome = tuple[Literal["reply", "refused", "crashed", "piece"], int, dict[str, Any]]
"""What became of a request: kind, its key, and the child's message (`error` in it when there is one)."""


class NativeClient:
    """A native child that is started when needed and again when it dies."""

    def __init__(self, settings: LoadSettings) -> None:
        self.settings = settings
        self._context: ContextSettings | None = None
        self._child: JsonChild | None = None
        self.facts: dict[str, Any] = {}
        self.crashes = 0
        """How often the child died since the start."""

    def arrange(self, context: ContextSettings, cancel: Cancel) -> dict[str, Any]:
        """Load the model unless it is loaded, and make its context like `context`, now and after each crash. Only
        while no request is asked. Returns facts about the model and the context.

        Raises ModelFileError, MissingExtra, Cancelled.
        """
        self.plan(context, cancel)
        return self.start(cancel)

    def plan(self, context: ContextSettings, cancel: Cancel) -> None:
        """The same, but a child that does not run is only started when there is work for it."""
        changes, self._context = context != self._context, context
        if changes and self._is_alive():
            self._rearrange(cancel)

    def _rearrange(self, cancel: Cancel) -> None:
        assert self._child is not None and self._context is not None
        try:
            self._child.send({"op": "arrange", **dataclasses.asdict(self._context)})
            message = self._await(cancel)
        except ChildDied as death:
            self.close()
            raise self._refusal(f"llama.cpp died while making a context ({death})", death.log) from None
        if message["op"] == "failed":
            log = self._child.log_tail()
            self.close()
            raise self._refusal(str(message["error"]), log)
        self.facts.update({key: value for key, value in message.items() if key != "op"})

    def weigh(self, prompts: Sequence[str], cancel: Cancel) -> dict[str, int]:
        """Tokens of `prompts`: `total`, `unique` (common beginnings counted once), `count`. Raises ModelFileError."""
        self.start(cancel)
        assert self._child is not None
        try:
            self._child.send({"op": "weigh", "prompts": list(prompts)})
            message = self._await(cancel)
        except ChildDied as death:
            self.close()
            raise self._refusal(f"llama.cpp died while reading prompts ({death})", death.log) from None
        return {name: int(message[name]) for name in ("total", "unique", "count")}

    def calibrate(self, cancel: Cancel, **wanted: Any) -> dict[str, Any]:
        """What `calibrating.calibrate` found. Raises ModelFileError, Cancelled."""
        self._context = None
        self.start(cancel)
        assert self._child is not None
        try:
            self._child.send({"op": "calibrate", **wanted})
            return self._await(cancel)
        except ChildDied as death:
            self.close()
            raise self._refusal(f"llama.cpp died while it was timed ({death})", death.log) from None

    def _is_alive(self) -> bool:
        return self._child is not None and self._child.is_alive()

    def start(self, cancel: Cancel) -> dict[str, Any]:
        """Load the model unless it is loaded. Returns facts about it.

        Raises ModelFileError, MissingExtra, Cancelled.
        """
        if self._is_alive():
            return self.facts
        try:
            message = self._load(cancel)
        except ChildDied as death:
            tamer = _tamer(self.settings)
            if tamer is None:
                raise self._refusal(f"llama.cpp died while loading it ({death})", death.log) from None
            self.settings = tamer
            return self.start(cancel)
        if message["op"] == "failed":
            log = self._child.log_tail() if self._child else ""
            self.close()
            if message["kind"] == "extra":
                raise MissingExtra.of("llama", "llama-cpp-python")
            raise self._refusal(str(message["error"]), log)
        self.facts = {**message, "repacks": self.settings.repacks, "matrix_units": self.settings.matrix_units}
        if self._context is not None:
            self._rearrange(cancel)
        return self.facts

    def _load(self, cancel: Cancel) -> dict[str, Any]:
        self.close()
        # Threads that wait must give way: spinning next to another busy process costs a time slice at every barrier.
        # A failed check of llama.cpp would call a debugger for its last words, which takes ten seconds.
        self._child = JsonChild(_MODULE, environment={"GOMP_SPINCOUNT": "2000", "GGML_NO_BACKTRACE": "1"})
        self._child.send({"op": "load", **dataclasses.asdict(self.settings)})
        return self._await(cancel)

    def _await(self, cancel: Cancel) -> dict[str, Any]:
        """The child's next message."""
        assert self._child is not None
        while True:
            try:
                return self._child.receive(_LISTEN_S)
            except ChildTimeout:
                if cancel.is_set():
                    self.close()
                cancel.check()

    def _refusal(self, what: str, log: str) -> ModelFileError:
        errors = [line for line in log.splitlines() if "error" in line.lower()]
        detail = f": {errors[-1].strip()[:300]}" if errors else ""
        hint = "the file may be damaged or of an architecture that this llama.cpp does not know; compare its SHA-256"
        return ModelFileError(f"{self.settings.path} cannot be loaded: {what}{detail}", hint)

    def ask(self, requests: Iterable[NativeRequest], window: int, cancel: Cancel) -> Iterator[Outcome]:
        """Outcomes of `requests`, pulled lazily, at most `window` in flight. Stops early when cancelled."""
        source = iter(requests)
        in_flight: dict[int, NativeRequest] = {}
        suspects: deque[NativeRequest] = deque()
        idle_crashes = 0
        try:
            while not cancel.is_set():
                try:
                    if self._child is None:
                        self.start(cancel)
                    self._fill(source, in_flight, suspects, window)
                    if not in_flight:
                        return
                    outcome = self._listen(in_flight)
                except ChildDied as death:
                    self.close()
                    self.crashes += 1
                    idle_crashes += 1
                    guilty = self._arrest(in_flight, suspects)
                    if guilty is not None:
                        yield "crashed", guilty.key, {"error": f"llama.cpp died on this request twice ({death})"}
                    elif idle_crashes > _MOST_IDLE_CRASHES:
                        raise EngineUnavailable(
                            f"llama.cpp died {idle_crashes} times in a row ({death})",
                            "run `localdistill doctor`; localdistill resume continues from here",
                        ) from None
                    continue
                if outcome is None:
                    continue
                idle_crashes = 0
                if suspects and outcome[0] != "piece":
                    suspects.popleft()
                yield outcome
        finally:
            if in_flight:
                self._drop()

    def _fill(self, source: Iterator[NativeRequest], in_flight: dict[int, NativeRequest],
              suspects: deque[NativeRequest], window: int) -> None:
        """Send what may be in flight: one suspect alone, or as many requests as fit."""
        assert self._child is not None
        if suspects:
            if not in_flight:
                self._send(suspects[0], in_flight)
            return
        while len(in_flight) < window:
            request = next(source, None)
            if request is None:
                return
            self._send(request, in_flight)

    def _send(self, request: NativeRequest, in_flight: dict[int, NativeRequest]) -> None:
        assert self._child is not None
        in_flight[request.key] = request
        self._child.send({"op": "ask", **dataclasses.asdict(request)})

    def _listen(self, in_flight: dict[int, NativeRequest]) -> Outcome | None:
        assert self._child is not None
        try:
            message = self._child.receive(_LISTEN_S)
        except ChildTimeout:
            return None
        key = message["key"]
        if message["op"] != "piece":
            in_flight.pop(key, None)
        return message["op"], key, message

    def _arrest(self, in_flight: dict[int, NativeRequest], suspects: deque[NativeRequest]) -> NativeRequest | None:
        """Make everything in flight a suspect; returns the one that is proven guilty."""
        if suspects and suspects[0].key in in_flight:
            in_flight.clear()
            return suspects.popleft()
        suspects.extend(in_flight.values())
        in_flight.clear()
        return None

    def _drop(self) -> None:
        """Make the child forget its requests; end it when it does not answer."""
        if self._child is None:
            return
        try:
            self._child.send({"op": "drop"})
            deadline = time.monotonic() + _DROP_TIMEOUT_S
            while self._child.receive(max(0.0, deadline - time.monotonic()))["op"] != "dropped":
                pass
        except (ChildDied, ChildTimeout):
            self.close()

    def probe(self, cancel: Cancel) -> dict[str, Any]:
        """Facts about the model and `tokens_per_s` of one sequence alone. Only after `arrange`. Raises
        ModelFileError."""
        facts = self.start(cancel)
        assert self._child is not None
        try:
            self._child.send({"op": "probe"})
            return {**facts, "tokens_per_s": float(self._child.receive()["tokens_per_s"])}
        except ChildDied as death:
            raise self._refusal(f"llama.cpp died while writing ({death})", death.log) from None

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child = None


def _tamer(settings: LoadSettings) -> LoadSettings | None:
    """What to try when the model kills the child with `settings`: some machines announce matrix units that crash when
    they are used. None when there is nothing left to try."""
    if settings.matrix_units and can_hide():
        return dataclasses.replace(settings, matrix_units=False)
    if settings.repacks:
        return dataclasses.replace(settings, repacks=False)
    return None
