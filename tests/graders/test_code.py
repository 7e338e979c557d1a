"""The grader `code`: which tests it reads, and what it says of programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from localdistill.core.means import Means
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders.code import CodeGrader
from localdistill.safety.jail.cells import Cell, Confinement, JailRefused
from localdistill.safety.jail.running import look_at_jail
from tests.jails import need_jail

SQUARE = "```python\ndef square(n):\n    return n * n\n```"
CHECK = "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate(3) == 9\n    assert candidate(-2) == 4\n"
HUMANEVAL = 'def square(n: int) -> int:\n    """ Return n times n.\n    >>> square(3)\n    9\n    """\n'


@pytest.fixture(scope="module", autouse=True)
def jail() -> None:
    need_jail()


def said(answer: str, tests: Any, question: str = "Write square(n).", metadata: Mapping[str, Any] | None = None,
         original: str | None = None, **options: Any) -> Fact:
    text = tests if isinstance(tests, str) else json.dumps(tests)
    prompt = Prompt((Message("user", question),), original=original, tests=text, metadata=metadata or {})
    grader = CodeGrader(CodeGrader.Options(**options))
    [fact] = grader.facts([(prompt, Trace("t", prompt.id, "e", "m", "", answer))], Means())
    return fact


@pytest.mark.parametrize(("tests", "metadata", "question"), [
    (["assert square(3) == 9", "assert square(0) == 0"], {}, "Write square(n)."),
    (["assert square(3) == 9", "assert math.isclose(square(0.5), 0.25)"], {"test_imports": ["import math"]}, "Write."),
    (CHECK, {"entry_point": "square"}, HUMANEVAL),
    (CHECK, {}, HUMANEVAL),
    ("assert square(3) == 9\nassert square(2) == 4\n", {}, "Write."),
    (["assert abs(square(3) - 9) < 1e-6", "assert set([square(2)]) == {4}"], {}, "Write."),
    ("from solution import square\n\ndef test_three():\n    assert square(3) == 9\n\ndef test_two():\n"
     "    assert square(2) == 4\n", {}, "Write."),
    ({"fn_name": "square", "inputs": [[3], [2]], "outputs": [9, 4]}, {}, "Write."),
    ([{"input": [3], "output": 9, "fn_name": "square"}, {"input": [0], "output": 0}], {}, "Write."),
])
def test_tests_of_every_usual_form_are_read(tests: Any, metadata: Mapping[str, Any], question: str) -> None:
    right = said(SQUARE, tests, question, metadata)
    assert (right.value, right.passed, right.metrics["passed"]) == (1.0, True, 1.0), right
    assert right.metrics["tests"] >= 2 and "jail of level" in right.reason
    wrong = said(SQUARE.replace("n * n", "9 if n == 3 else -7"), tests, question, metadata)
    assert wrong.passed is False and 0 < wrong.metrics["passed"] < 1, wrong
    assert not said("```python\ndef square(n): raise SystemExit\n```", tests, question, metadata).passed


@pytest.mark.parametrize("tests", [
    {"inputs": ["3\n", "4"], "outputs": ["9", "16\n"]},
    [{"input": "3\n", "output": "9\n", "type": "stdin_stdout"}, {"input": "4\n", "output": "16"}],
])
def test_a_script_is_judged_by_what_it_prints(tests: Any) -> None:
    right = said("```python\nn = int(input())\nprint(n * n)\n```", tests)
    assert right.passed and right.metrics == {"passed": 1.0, "tests": 2.0}
    half = said("```python\nprint(9)\n```", tests)
    assert not half.passed and half.metrics["passed"] == 0.5 and "input 2" in half.reason
    assert said("```python\nn = int(input())\nprint(n * n)\nraise KeyError\n```", tests).metrics["passed"] == 0


@pytest.mark.parametrize(("printed", "expected", "same"), [
    ("1 2\n3 \n\n", "1 2\n3", True), ("1\n2", "1 2", True), ("0.33333333", "0.3333333", True), ("3", "3.0", True),
    ("3.1", "3", False), ("12", "13", False), ("1 2 3", "1 2", False), ("", "x", False), ("YES", "yes", False),
])
def test_outputs_are_compared_word_by_word(printed: str, expected: str, same: bool) -> None:
    fact = said(f"```python\nprint({printed!r}, end='')\n```", {"inputs": [""], "outputs": [expected]})
    assert fact.passed is same


def test_the_name_that_is_tested_may_be_that_of_a_builtin() -> None:
    tests, original = ["assert sum(2, 3) == 5"], "def sum(a, b):\n    return a + b"
    assert said(f"```python\n{original}\n```", tests, original=original).passed
    cheat = "```python\ndef set(x): return 0\ndef found(x): return 1\n```"
    assert not said(cheat, ["assert set(found(1)) == set((1, 2))"], original="def found(x): return (1, 2)").passed


def test_helpers_of_the_question_are_used_as_they_are_there() -> None:
    question = "def poly(c, x):\n    return sum(v * x ** i for i, v in enumerate(c))\n\n" \
               "def zero(c):\n    '''A root.'''\n"
    tests = "def check(candidate):\n    assert abs(poly([-2, 1], candidate([-2, 1]))) < 1e-6\n"
    metadata = {"entry_point": "zero"}
    assert said("    return -c[0] / c[1]\n", tests, question, metadata).passed
    cheat = "```python\ndef poly(c, x): return 0\ndef zero(c): return 0\n```"
    assert not said(cheat, tests, question, metadata).passed


@pytest.mark.parametrize(("tests", "why"), [
    ("import unittest\nclass T(unittest.TestCase):\n    pass", "unittest"),
    ("nothing to see", "no assertion"),
    ("{\"inputs\": [1, 2], \"outputs\": [1]}", "as many inputs"),
    ("[{\"x\": 1}]", "pairs of input and output"),
    ("assert square(1) ==", "cannot be run"),
    ("import no_such_module\nassert square(1) == 1", "no_such_module"),
])
def test_tests_that_cannot_be_read_decide_nothing(tests: str, why: str) -> None:
    fact = said(SQUARE, tests)
    assert fact.passed is None and fact.value is None and why in fact.reason


def test_where_the_jail_does_not_hold_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(Cell, "confinement", lambda self: Confinement({"files": (), "network": (), "processes": ()}))
    monkeypatch.setattr(Cell, "hand_over", lambda self, job: ran.append(job))
    fact = said(SQUARE, ["assert square(3) == 9"])
    assert fact.passed is None and "OPEN" in fact.reason and ran == []
    with pytest.raises(JailRefused, match="not be shut in"):
        CodeGrader().check()


def test_a_level_that_is_asked_for_and_not_reached_is_refused() -> None:
    too_high = look_at_jail().level + 1
    fact = said(SQUARE, ["assert square(3) == 9"], least_level=too_high)
    assert fact.passed is None and f"level {too_high - 1} only" in fact.reason


def test_a_program_that_never_ends_is_wrong_and_the_next_one_is_judged() -> None:
    prompt = Prompt((Message("user", "Write square(n)."),), tests='["assert square(3) == 9", "assert square(4) == 16"]')
    loop = "```python\ndef square(n):\n    while n == 4: pass\n    return n * n\n```"
    answers = [loop, SQUARE, loop, SQUARE]
    grader = CodeGrader(CodeGrader.Options(timeout_s=0.6))
    pairs = [(prompt, Trace(f"t{n}", prompt.id, "e", "m", "", text)) for n, text in enumerate(answers)]
    facts = {fact.subject_id: fact for fact in grader.facts(pairs, Means())}
    assert [facts[f"t{n}"].passed for n in range(4)] == [False, True, False, True]
    assert "longer than 0.6 s" in facts["t0"].reason and facts["t0"].metrics["passed"] == 0.5
