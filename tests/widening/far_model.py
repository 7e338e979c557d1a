"""Answers through a service with a language of its own: an example of an engine with a host and terms of its own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.records import Reply, Request
from localdistill.core.samples import EngineSample
from localdistill.providers import Terms, Who

TERMS = Terms.model_validate({"class": "allowed", "url": "https://far.example/terms", "date": "2026-11-30"})


class FarModelOptions(Options):
    """Options of the `far_model` engine."""

    base_url: str = "https://far.example"
    """Where the service is."""


class FarModelEngine:
    """One question, one answer, one after another."""

    Options: ClassVar[type[Options]] = FarModelOptions
    name: ClassVar[str] = "far_model"

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """What is sent and what comes back."""
        said = {"question": "What is 2 + 2?"}
        return (EngineSample(served='{"says": "It is 4."}', sent=said, reply=Reply("", "complete", answer="It is 4."),
                             costs=True),)

    def __init__(self, options: FarModelOptions) -> None:
        self.options = options

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """The service, whose terms no file of providers knows."""
        return Who(("far.example",), costs=True, terms=TERMS)

    def can(self) -> frozenset[Capability]:
        """Nothing but write."""
        return frozenset({"generate"})

    def identity(self) -> str:
        """The service."""
        return "far.example/model"

    def greedy_by(self, request: Request) -> str:
        """Every sample is another one."""
        return ""

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`."""
        for request in requests:
            if cancel.is_set():
                return
            try:
                require(self, needed_by(request))
            except UsageError as error:
                yield Reply(request.id, "error", error=error.message)
                continue
            body = json.dumps({"question": request.messages[-1].content}).encode()
            post = urllib.request.Request(self.options.base_url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(post, timeout=30) as response:
                yield Reply(request.id, "complete", answer=str(json.load(response)["says"]))

    def close(self) -> None:
        """Nothing is held."""
