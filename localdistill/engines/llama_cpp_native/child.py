"""The process that holds a model: `python -m localdistill.engines.llama_cpp_native.child`.

Reads lines whose "op" is load, ask, drop or probe; writes ready, failed, reply, refused, piece, dropped or probed.
A thread only reads, so that the parent never waits to write; the main thread decodes.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

from localdistill.engines.llama_cpp_native.batching import Batcher, Refused
from localdistill.engines.llama_cpp_native.model import LoadFailure, LoadSettings, NativeModel
from localdistill.engines.llama_cpp_native.sequence import NativeSequence, Question
from localdistill.safety.children import Line, serve

_PROBE_TOKENS = 32
_WARM_UP_TOKENS = 64


class Service:
    """One loaded model and its queue of questions."""

    def __init__(self, line: Line, model: NativeModel) -> None:
        self._line, self._model = line, model
        self._batcher = Batcher(model)

    def handle(self, message: dict[str, Any]) -> None:
        """Carry out one message."""
        match message.pop("op"):
            case "ask":
                question = Question(**{**message, "stop": tuple(message["stop"])})
                try:
                    self._batcher.add(question)
                except Refused as refusal:
                    self._line.write({"op": "refused", "key": question.key, "error": str(refusal)})
            case "drop":
                self._batcher.drop_all()
                self._line.write({"op": "dropped"})
            case "probe":
                self._line.write({"op": "probed", "tokens_per_s": self._batcher.measure(_PROBE_TOKENS)})

    def warm_up(self) -> None:
        """Evaluate a batch of one token and one of many: if this machine makes llama.cpp crash, then here, where the
        parent knows what to do about it."""
        self._batcher.measure(1)
        self._batcher.prefill(_WARM_UP_TOKENS)

    def is_busy(self) -> bool:
        """True while there are questions."""
        return self._batcher.is_busy()

    def step(self) -> None:
        """One batch; sends what became of it."""
        messages: list[dict[str, Any]] = []
        for sequence in self._batcher.step():
            if sequence.question.streams and (piece := sequence.fresh_text()):
                messages.append({"op": "piece", "key": sequence.question.key, "text": piece})
            if sequence.finish:
                messages.append(self._reply(sequence))
        if messages:
            self._line.write(*messages)

    def _reply(self, sequence: NativeSequence) -> dict[str, Any]:
        return {
            "op": "reply", "key": sequence.question.key, "text": sequence.text(), "finish": sequence.finish,
            "prompt_tokens": len(sequence.prompt), "completion_tokens": len(sequence.tokens),
            "reasoning_tokens": sequence.reasoning_tokens(self._model.piece), "cached_tokens": sequence.cached,
            "elapsed_s": time.perf_counter() - sequence.started,
        }


def main() -> None:
    """Load what the first message names, then serve until the parent closes the pipe."""
    line = serve()
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for message in line:
            inbox.put(message)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    settings = inbox.get()
    settings.pop("op")
    try:
        model = NativeModel(LoadSettings(**settings))
    except ImportError as error:
        line.write({"op": "failed", "kind": "extra", "error": str(error)})
        return
    except LoadFailure as failure:
        line.write({"op": "failed", "kind": "model", "error": str(failure)})
        return
    service = Service(line, model)
    service.warm_up()
    line.write({"op": "ready", **model.facts()})
    while True:
        if not service.is_busy():
            service.handle(inbox.get())
        while not inbox.empty():
            service.handle(inbox.get())
        if service.is_busy():
            service.step()


if __name__ == "__main__":
    main()
