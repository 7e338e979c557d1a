"""What can be asked of the jail: run a script with an input, or put tests to a program. The verdicts are put together
here, outside, from what the examiner says: the program has no way to say one."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.safety.jail.cells import Cell, Confinement, Limits, PipeEnds, require_level

_LOOK_S = 0.2


@dataclass(frozen=True)
class Exam:
    """What a program is put to."""

    parts: Sequence[str]
    """Pieces of Python that run one after another in one namespace; each assertion counts by itself."""
    names: Sequence[str] = ()
    """What the program is asked to define: these names are the program's, whatever else they mean."""
    before: str = ""
    """Python that runs first, on the side of the tests: imports, helpers of the task."""


@dataclass(frozen=True)
class Outcome:
    """What an assertion came to."""

    passed: bool
    what: str
    why: str = ""


@dataclass(frozen=True)
class ExamResult:
    """What tests came to."""

    tests: tuple[Outcome, ...]
    total: int
    """How many there are; at least as many as came to an end."""
    ended: str
    """Why not all of them came to an end; empty when they did."""
    broken: str
    """Why the tests themselves could not be run; then they say nothing of the program."""
    confinement: Confinement

    @property
    def passed(self) -> int:
        """How many passed."""
        return sum(one.passed for one in self.tests)

    @property
    def is_right(self) -> bool:
        """All there are have passed, and they came to their end."""
        return bool(self.tests) and self.passed == self.total and not self.ended and not self.broken


@dataclass(frozen=True)
class Ran:
    """What a script printed."""

    output: str
    ended: str
    """Why it did not come to its end; empty when it did."""
    confinement: Confinement


def examine(program: str, tests: Exam, limits: Limits, least_level: int = 1,
            cancel: Cancel | None = None) -> ExamResult:
    """Put `tests` to `program`, each in a process of its own. Raises JailRefused, before anything runs, where they
    would not be shut in; Cancelled."""
    asked, answered = PipeEnds(), PipeEnds()
    with ExitStack() as stack:
        for pipe in (asked, answered):
            stack.callback(pipe.close)
        prisoner = stack.enter_context(Cell("prisoner", limits, asked=asked.out, answered=answered.into))
        examiner = stack.enter_context(Cell("examiner", limits, asked=answered.out, answered=asked.into))
        for pipe in (asked, answered):
            pipe.close()
        confinement = prisoner.confinement()
        for one in (confinement, examiner.confinement()):
            require_level(one, least_level)
        deadline = time.monotonic() + limits.wall_s
        prisoner.hand_over({"program": program, "as": "module"})
        examiner.hand_over({"parts": list(tests.parts), "names": list(tests.names), "before": tests.before})
        found = _verdicts(examiner, deadline, confinement, cancel)
        is_over = bool(found.ended) and time.monotonic() < deadline and prisoner.is_over_time()
        return replace(found, ended=prisoner.why_over(deadline)) if is_over else found


def _verdicts(examiner: Cell, deadline: float, confinement: Confinement, cancel: Cancel | None) -> ExamResult:
    found: list[Outcome] = []
    total, ended, broken, is_done = 1, "", "", False
    while not is_done:
        if cancel is not None:
            cancel.check()
        now = time.monotonic()
        for message in examiner.messages(min(deadline, now + _LOOK_S)):
            total = int(message.get("total", total))
            ended, broken = str(message.get("gone", ended)), str(message.get("broken", broken))
            is_done = "done" in message
            if "passed" in message:
                found.append(Outcome(message["passed"] is True, str(message["what"]), str(message["why"])))
            if is_done:
                break
        if time.monotonic() >= deadline or not examiner.is_open:
            break
    if not is_done:
        ended = examiner.why_over(deadline)
    if is_done and not ended and not broken:
        total = len(found)
    return ExamResult(tuple(found), max(total, len(found) + bool(ended)), ended, broken, confinement)


def run_script(program: str, given: str, limits: Limits, least_level: int = 1, cancel: Cancel | None = None) -> Ran:
    """Run `program` as a script with `given` as its standard input. Raises as `examine` does."""
    with ExitStack() as stack:
        source = _input_file(given)
        stack.callback(os.close, source)
        printed = PipeEnds()
        stack.callback(printed.close)
        cell = stack.enter_context(Cell("prisoner", limits, stdin=source, stdout=printed.into))
        printed.close_into()
        confinement = cell.confinement()
        require_level(confinement, least_level)
        deadline = time.monotonic() + limits.wall_s
        cell.hand_over({"program": program, "as": "script"})
        output, ended = _printed(printed.out, deadline, limits, cancel)
        if not ended:
            said = next(iter(cell.messages(min(deadline, time.monotonic() + _LOOK_S))), {})
            ended = "" if "ended" in said else f"it raised {said['raised']}: {said.get('says', '')}" if (
                "raised" in said) else cell.why_over(deadline) if cell.is_over_time() else "it ended its process"
        return Ran(output.decode("utf-8", "replace"), ended, confinement)


def _input_file(given: str) -> int:
    """A file without a name, open for reading."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(given.encode("utf-8", "replace"))
        file.flush()
        return os.open(file.name, os.O_RDONLY)


def _printed(source: int, deadline: float, limits: Limits, cancel: Cancel | None) -> tuple[bytes, str]:
    """What comes, until nobody can write any more; and why that was not waited for."""
    found = bytearray()
    while (left := deadline - time.monotonic()) > 0:
        if cancel is not None:
            cancel.check()
        if not select.select([source], [], [], min(left, _LOOK_S))[0]:
            continue
        chunk = os.read(source, BORDERS.pipe_bytes)
        if not chunk:
            return bytes(found), ""
        found += chunk
        if len(found) > limits.output_bytes:
            return bytes(found), f"it printed more than {limits.output_bytes:,} bytes"
    return bytes(found), f"it took longer than {limits.timeout_s:g} s"


def look_at_jail() -> Confinement:
    """How a program would be shut in on this machine, found by shutting in one that does nothing. JailRefused where not
    even that can be done."""
    with Cell("prisoner", Limits()) as cell:
        return cell.confinement()
