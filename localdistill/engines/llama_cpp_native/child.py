"""The process that holds a model: `python -m localdistill.engines.llama_cpp_native.child`.

Reads lines whose "op" is load, arrange, weigh, ask, drop, probe or calibrate; writes ready, failed, arranged, weighed,
reply, refused, piece, dropped, probed or calibrated. A thread only reads, so that the parent never waits to write; the
main thread decodes.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from array import array
from base64 import b64encode
from itertools import pairwise
from typing import Any

from localdistill.core.records import Continuation
from localdistill.engines.llama_cpp_native.batching import Batcher, Unanswerable
from localdistill.engines.llama_cpp_native.calibrating import calibrate, warm_up
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.model import LoadFailure, LoadSettings, NativeModel
from localdistill.engines.llama_cpp_native.sequence import NativeRequest, NativeSequence
from localdistill.modelfiles.beginnings import common_length
from localdistill.safety.children import JsonPipe, serve

_PROBE_TOKENS = 32


class Service:
    """One loaded model and its queue of requests."""

    def __init__(self, pipe: JsonPipe, model: NativeModel) -> None:
        self._pipe, self._model = pipe, model
        self._batcher: Batcher | None = None
        self._scored: dict[int, list[NativeSequence]] = {}
        """The continuations of each request that is scored, by its key."""

    def handle(self, message: dict[str, Any]) -> None:
        """Carry out one message."""
        match message.pop("op"):
            case "arrange":
                self._arrange(ContextSettings(**message))
            case "weigh":
                self._pipe.write({"op": "weighed", **self._weigh(message["prompts"])})
            case "ask":
                self._ask(_request(message))
            case "drop":
                if self._batcher:
                    self._batcher.drop_all()
                self._scored.clear()
                self._pipe.write({"op": "dropped"})
            case "probe":
                assert self._batcher is not None
                self._pipe.write({"op": "probed", "tokens_per_s": self._batcher.measure(_PROBE_TOKENS)})
            case "calibrate":
                self._batcher = None
                self._pipe.write({"op": "calibrated", **calibrate(self._model, **message)})

    def _arrange(self, wanted: ContextSettings) -> None:
        try:
            self._model.arrange(wanted)
        except LoadFailure as failure:
            self._pipe.write({"op": "failed", "kind": "model", "error": str(failure)})
            return
        self._batcher = Batcher(self._model)
        self._pipe.write({"op": "arranged", **self._model.context_facts()})

    def _weigh(self, prompts: list[str]) -> dict[str, int]:
        """Tokens of all prompts, and how many there are when common beginnings count once."""
        ids = sorted(self._model.tokenize(prompt) for prompt in prompts)
        shared = sum(common_length(left, right) for left, right in pairwise(ids))
        total = sum(map(len, ids))
        return {"total": total, "unique": total - shared, "count": len(ids)}

    def _ask(self, request: NativeRequest) -> None:
        assert self._batcher is not None
        try:
            sequences = self._batcher.add(request)
        except Unanswerable as refusal:
            self._pipe.write({"op": "refused", "key": request.key, "error": str(refusal)})
            return
        if request.continuations:
            self._scored[request.key] = sequences

    def is_busy(self) -> bool:
        """True while there are requests."""
        return self._batcher is not None and self._batcher.is_busy()

    def step(self) -> None:
        """One batch; sends what became of it."""
        assert self._batcher is not None
        messages: list[dict[str, Any]] = []
        for sequence in self._batcher.step():
            if sequence.request.streams and (piece := sequence.fresh_text()):
                messages.append({"op": "piece", "key": sequence.request.key, "text": piece})
            if sequence.finish and not sequence.target:
                messages.append(self._reply(sequence))
            elif sequence.finish and (done := self._all_scored(sequence.request.key)):
                messages.append(self._scores(done))
        if messages:
            self._pipe.write(*messages)

    def _reply(self, sequence: NativeSequence) -> dict[str, Any]:
        return {
            "op": "reply", "key": sequence.request.key, "text": sequence.text(), "finish": sequence.finish,
            "prompt_tokens": len(sequence.prompt), "completion_tokens": len(sequence.tokens),
            "reasoning_tokens": sequence.reasoning_tokens(self._model.piece), "cached_tokens": sequence.cached,
            "elapsed_s": time.perf_counter() - sequence.started, "scores": _packed(sequence),
        }

    def _all_scored(self, key: int) -> list[NativeSequence]:
        """The continuations of a request, once, as soon as all are scored; several may be in the same step."""
        found = self._scored.get(key, [])
        return self._scored.pop(key) if found and all(one.finish for one in found) else []

    def _scores(self, sequences: list[NativeSequence]) -> dict[str, Any]:
        first = sequences[0]
        return {
            "op": "reply", "key": first.request.key, "prompt_tokens": len(first.prompt),
            "elapsed_s": time.perf_counter() - first.started, "continuations": [_packed(one) for one in sequences],
        }


def _request(message: dict[str, Any]) -> NativeRequest:
    continuations = (Continuation(one["text"], tuple(one["token_ids"])) for one in message["continuations"])
    return NativeRequest(**{**message, "stop": tuple(message["stop"]), "continuations": tuple(continuations)})


def _packed(sequence: NativeSequence) -> dict[str, Any] | None:
    """The scores as base64 of 32-bit numbers, which is short and quick to read."""
    if not sequence.scores:
        return None
    ids, logprobs, top_ids, top_logprobs = zip(*sequence.scores)
    columns = {
        "ids": array("i", ids), "logprobs": array("f", logprobs),
        "top_ids": array("i", (i for row in top_ids for i in row)),
        "top_logprobs": array("f", (x for row in top_logprobs for x in row)),
    }
    return {name: b64encode(column.tobytes()).decode("ascii") for name, column in columns.items()}


def main() -> None:
    """Load what the first message names, then serve until the parent closes the pipe."""
    pipe = serve()
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for message in pipe:
            inbox.put(message)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    settings = inbox.get()
    settings.pop("op")
    try:
        model = NativeModel(LoadSettings(**{**settings, "layer_bytes": tuple(settings["layer_bytes"])}))
        warm_up(model)
    except ImportError as error:
        pipe.write({"op": "failed", "kind": "extra", "error": str(error)})
        return
    except LoadFailure as failure:
        pipe.write({"op": "failed", "kind": "model", "error": str(failure)})
        return
    service = Service(pipe, model)
    pipe.write({"op": "ready", **model.facts()})
    while True:
        if not service.is_busy():
            service.handle(inbox.get())
        while not inbox.empty():
            service.handle(inbox.get())
        if service.is_busy():
            service.step()


if __name__ == "__main__":
    main()
