"""Grades programs: takes the program out of the answer and puts the prompt's tests to it, in the jail and from outside
the program's process. The value is right or wrong; the share of tests that passed is a metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.events import Cancel
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.at_once import judged_at_once
from localdistill.graders.base import JudgesTraces
from localdistill.graders.code_tests import CodeTests, UnknownTests, says_the_same, tests_of
from localdistill.graders.programs import Program, program_in
from localdistill.safety.jail.cells import Confinement, JailRefused, Limits, require_level
from localdistill.safety.jail.running import examine, look_at_jail, run_script


class CodeGrader(JudgesTraces):
    """The `code` grader, for Python. Safe to call from several threads."""

    name = "code"
    version = 2
    metrics: ClassVar[Mapping[str, str]] = {
        "passed": "share of the tests that passed, 0 to 1",
        "tests": "how many tests there were",
    }

    class Options(BaseOptions):
        """Options of `code`."""

        timeout_s: float = Field(default=10.0, gt=0, le=600)
        """Processor time for all tests of one answer, or for one run of a script, in seconds; the wall clock may show
        three times as much. Past it everything that the program started is killed."""
        memory_mb: int = Field(default=1024, ge=64, le=65_536)
        """Most memory of a program, in MB."""
        children: int = Field(default=2, ge=1, le=64)
        """Most programs that run at the same time."""
        least_level: int = Field(default=1, ge=1, le=4)
        """Fewest barriers of the kernel that each wall of the jail must have; where fewer hold, nothing is run."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        listed = Prompt(asks("Write twice(n).").messages, tests='["assert twice(2) == 4", "assert twice(0) == 0"]')
        plain = asks("How many?", "42")
        right, half = "```python\ndef twice(n):\n    return n * 2\n```", "```python\ndef twice(n):\n    return 4\n```"
        return (
            GraderSample(listed, answers(listed, right), 1.0, metrics={"passed": 1.0, "tests": 2.0}),
            GraderSample(listed, answers(listed, half), 0.0, metrics={"passed": 0.5, "tests": 2.0}),
            GraderSample(plain, answers(plain, "42"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        self._limits = Limits(self.options.timeout_s, self.options.memory_mb << 20)

    def applies(self, prompt: Prompt) -> bool:
        """True for a prompt that carries tests."""
        return bool((prompt.tests or "").strip())

    def check(self) -> None:
        """JailRefused where programs would not be shut in on this machine."""
        require_level(look_at_jail(), self.options.least_level)

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker. As many programs run at the same time as there may be children."""
        return judged_at_once(lambda prompt, trace: self.grade(prompt, trace, means.cancel), pairs,
                               self.options.children, means.cancel)

    def grade(self, prompt: Prompt, trace: Trace, cancel: Cancel | None = None) -> Fact:
        """1 when every test passes. Undecided where the tests cannot be read or run, or the jail does not hold."""
        try:
            tests = tests_of(prompt)
        except UnknownTests as error:
            return self._undecided(trace, str(error))
        if tests is None:
            return self.verdict(trace, None, "the prompt has no tests")
        if not trace.answer.strip():
            return self.verdict(trace, 0.0, "the answer is empty")
        program = program_in(trace.answer, prompt.question, tests.names)
        if program is None:
            wanted = f" that defines {' or '.join(tests.names)}" if tests.names else ""
            return self.verdict(trace, 0.0, f"the answer holds no program{wanted}")
        try:
            return self._run(trace, program, tests, cancel)
        except JailRefused as error:
            return self._undecided(trace, error.message)

    def _run(self, trace: Trace, program: Program, tests: CodeTests, cancel: Cancel | None) -> Fact:
        if tests.tests is None:
            return self._run_cases(trace, program, tests, cancel)
        examined = examine(program.text, tests.tests, self._limits, self.options.least_level, cancel)
        if examined.broken:
            return self._undecided(trace, f"the tests cannot be run: {examined.broken}")
        first = next((one for one in examined.tests if not one.passed), None)
        why = examined.ended or (f"{first.what}{': ' + first.why if first.why else ''}" if first else "")
        return self._counted(trace, program, examined.passed, examined.total, examined.is_right, why,
                             examined.confinement)

    def _run_cases(self, trace: Trace, program: Program, tests: CodeTests, cancel: Cancel | None) -> Fact:
        passed, why, confinement = 0, "", None
        for number, case in enumerate(tests.cases, start=1):
            ran = run_script(program.text, case.given, self._limits, self.options.least_level, cancel)
            confinement = ran.confinement
            right = not ran.ended and says_the_same(ran.output, case.expected)
            passed += right
            if not right and not why:
                why = f"input {number}: {ran.ended or 'it prints ' + repr(ran.output[:80])}"
        assert confinement is not None
        return self._counted(trace, program, passed, len(tests.cases), passed == len(tests.cases), why, confinement)

    def _counted(self, trace: Trace, program: Program, passed: int, total: int, is_right: bool, why: str,
                 confinement: Confinement) -> Fact:
        said = f"{program.how}: {passed} of {total} tests passed{'; ' if why else ''}{why}"
        said += f" (jail of level {confinement.level})"
        metrics = {"passed": passed / total, "tests": float(total)}
        return self.verdict(trace, float(is_right), said, program.text, metrics)

    def _undecided(self, trace: Trace, why: str) -> Fact:
        return Fact(trace.id, self.name, self.version, reason=f"cannot be judged: {why}")

