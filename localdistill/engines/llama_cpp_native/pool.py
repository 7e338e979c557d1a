"""A worker pool (data parallelism): several children that hold the same model. For models so small that threads
inside one child would mostly wait for each other, one child per core answers more. Requests are handed out as
children have room for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from localdistill.core.events import Cancel
from localdistill.engines.llama_cpp_native.client import NativeClient, Outcome
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.model import LoadSettings
from localdistill.engines.llama_cpp_native.sequence import NativeRequest


class ClientPool:
    """Looks like one NativeClient; children beyond the first start when there is work for them."""

    def __init__(self, settings: LoadSettings, count: int) -> None:
        self._clients = [NativeClient(settings) for _ in range(max(1, count))]

    @property
    def first(self) -> NativeClient:
        """The child for single requests."""
        return self._clients[0]

    @property
    def facts(self) -> dict[str, Any]:
        """What the first child said of the model."""
        return self.first.facts

    @property
    def crashes(self) -> int:
        """How often children died since the start."""
        return sum(client.crashes for client in self._clients)

    def start(self, cancel: Cancel) -> dict[str, Any]:
        """Load the model in the first child; the others load it as the first one could."""
        facts = self.first.start(cancel)
        for client in self._clients[1:]:
            client.settings = self.first.settings
        return facts

    def arrange(self, context: ContextSettings, cancel: Cancel) -> dict[str, Any]:
        """Make all children's contexts like `context`; those that do not run yet start when there is work."""
        self.start(cancel)
        facts = self.first.arrange(context, cancel)
        for client in self._clients[1:]:
            client.plan(context, cancel)
        return facts

    def ask(self, requests: Iterable[NativeRequest], window: int, cancel: Cancel) -> Iterator[Outcome]:
        """Outcomes of `requests` in any order, at most `window` in flight per child. See NativeClient.ask."""
        if len(self._clients) == 1:
            yield from self.first.ask(requests, window, cancel)
            return
        source, closed = _Locked(requests), threading.Event()
        stop = Cancel(lambda: closed.is_set() or cancel.is_set())
        outcomes: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()

        def work(client: NativeClient) -> None:
            try:
                request = next(source, None)
                if request is not None:
                    for outcome in client.ask(chain([request], source), window, stop):
                        outcomes.put(outcome)
            except BaseException as error:
                outcomes.put(error)
            outcomes.put(None)

        threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in self._clients]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                outcome = outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is None:
                    running -= 1
                else:
                    yield outcome
        finally:
            closed.set()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """End all children."""
        for client in self._clients:
            client.close()


class _Locked:
    """An iterator that several threads may pull from."""

    def __init__(self, items: Iterable[NativeRequest]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[NativeRequest]:
        return self

    def __next__(self) -> NativeRequest:
        with self._lock:
            return next(self._items)
