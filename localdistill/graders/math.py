"""Grades mathematics: takes one stated result from the answer and compares it with the reference.

Plain numbers are compared exactly; everything else by math-verify. All of it runs in child processes under a wall
clock, because sympy may hang or eat memory on short hostile text and no timer inside one process stops that for
sure. What counts as the stated result is written in `extraction`.
"""

from __future__ import annotations

import json
import os
import queue
import select
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import Field

from localdistill.core.borders import BORDERS
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.at_once import judged_at_once
from localdistill.graders.base import JudgesTraces
from localdistill.graders.readable import TAIL_CHARS
from localdistill.graders.rules import RuleName
from localdistill.safety.children import NOTHING, PIPE, start_module

_START_S = 60.0
"""How long a fresh child may take to load sympy before the first verdict counts as hung."""


class MathGrader(JudgesTraces):
    """The `math` grader. Safe to call from several threads; holds up to `children` processes."""

    name = "math"
    version = 3

    class Options(BaseOptions):
        """Options of `math`."""

        timeout_s: float = Field(default=5.0, gt=0, le=600)
        """Wall clock for one answer, in seconds; past it the child is killed and the answer cannot be judged."""
        decimals: int | None = Field(default=None, ge=0, le=30)
        """Decimals to which values must agree; empty: equal, or a decimal of four figures that the other rounds to."""
        children: int = Field(default=2, ge=1, le=64)
        """Most processes that judge at the same time."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        half, none = asks("What part?", "\\frac{1}{2}"), asks("What part?")
        return (
            GraderSample(half, answers(half, "It is \\boxed{\\frac{2}{4}}."), 1.0),
            GraderSample(half, answers(half, "It is \\boxed{-\\frac{1}{2}}."), 0.0),
            GraderSample(half, answers(half, "\\boxed{"), 0.0),
            GraderSample(none, answers(none, "\\boxed{1}"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(self.options.children):
            self._free.put(None)

    def applies(self, prompt: Prompt) -> bool:
        """True for a prompt with a reference answer, unless its constraints say better what is right."""
        return bool((prompt.reference or "").strip()) and not prompt.metadata.get("constraints")

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. As many are judged at the same time as there are children."""
        return judged_at_once(self.grade, pairs, self.options.children, means.cancel)

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """1 when the stated result equals the reference; the reason names the rule that found it."""
        if not (prompt.reference or "").strip():
            return self.verdict(trace, None, f"{RuleName.BAD_REFERENCE}: the prompt has no reference answer")
        if not trace.answer.strip():
            return self.verdict(trace, 0.0, f"{RuleName.EMPTY}: the answer is empty")
        item = {"question": prompt.question[-TAIL_CHARS:], "reference": prompt.reference,
                "answer": trace.answer[-2 * TAIL_CHARS:], "timeout_s": self.options.timeout_s,
                "decimals": self.options.decimals}
        child, usable = self._free.get(), None
        try:
            if child is None or not child.is_alive():
                if child is not None:
                    child.kill()
                child = _Child()
            verdict = child.ask(item, self.options.timeout_s)
            usable = child
        finally:
            if usable is None and child is not None:
                child.kill()
            self._free.put(usable)
        if verdict is None:
            return self.verdict(trace, None, f"{RuleName.NO_VERDICT}: cannot be judged, no verdict within "
                                             f"{self.options.timeout_s:g} s; the child was restarted")
        return self.verdict(trace, verdict["score"], verdict["reason"], verdict["extracted"])

    def close(self) -> None:
        """End the children that are not at work."""
        for _ in range(self.options.children):
            child = self._free.get()
            if child is not None:
                child.kill()
            self._free.put(None)


class _Child:
    """One judging process and its pipes."""

    def __init__(self) -> None:
        self._process = start_module("localdistill.graders.math_child", stdin=PIPE, stdout=PIPE, stderr=NOTHING,
                                     start_new_session=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._is_fresh = True

    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def ask(self, item: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The verdict on `item`; None when the child died or gave none in time, and then it is gone."""
        deadline = time.monotonic() + (max(timeout_s, _START_S) if self._is_fresh else timeout_s)
        try:
            if self._is_fresh and self._exchange(b"{}\n", deadline) is not None:
                self._is_fresh = False
                deadline = time.monotonic() + timeout_s
            line = self._exchange(json.dumps(item).encode() + b"\n", deadline)
        except OSError:
            line = None
        if line is None:
            self.kill()
            return None
        verdict: dict[str, Any] = json.loads(line)
        return verdict

    def _exchange(self, data: bytes, deadline: float) -> bytes | None:
        """Send `data`, return the next line; None at the deadline or when the child closed its end."""
        received = b""
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            readable, writable, _ = select.select([self._out], [self._in] if data else [], [], left)
            if writable:
                data = data[os.write(self._in, data):]
            if readable:
                chunk = os.read(self._out, BORDERS.pipe_bytes)
                if not chunk:
                    return None
                received += chunk
        return received

    def kill(self) -> None:
        """End the process and close the pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
