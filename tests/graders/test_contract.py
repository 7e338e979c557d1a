"""What every grader must do, for every name in the family's table that judges by rules."""

from collections.abc import Iterator
from typing import Any

import pytest

from localdistill.core.means import Means
from localdistill.core.options import Options
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.core.samples import GraderSample
from localdistill.graders import GRADERS
from tests.doors import said_of


def trace(answer: str, status: Any = "complete") -> Trace:
    return Trace("t1", "p1", "e", "m", "", answer, status=status)


def sample(grader: Any, score: float) -> GraderSample:
    """The grader's own first example of an answer with this score."""
    found: GraderSample = next(one for one in grader.samples() if one.score == score and not one.options)
    return found


def said(grader: Any, prompt: Prompt, trace: Trace) -> Fact:
    """Its verdict, by the door that the stages use."""
    return said_of(grader, [(prompt, trace)], Means())


RULES = [name for name in GRADERS.names() if not GRADERS.load(name).Options.engine_fields()]
"""Graders that judge by rules; one that asks an engine says what the engine says."""


@pytest.fixture(scope="module", params=RULES)
def grader(request: pytest.FixtureRequest) -> Iterator[Any]:
    cls = GRADERS.load(request.param)
    assert cls.name == request.param
    made = cls(cls.Options())
    yield made
    made.close()
    made.close()


def test_options_are_strict_and_explained(grader: Any) -> None:
    assert issubclass(grader.Options, Options)
    assert all(field.description for field in grader.Options.model_fields.values())
    assert isinstance(grader.version, int)


def test_a_right_answer_scores_one_and_says_what_was_found(grader: Any) -> None:
    right = sample(grader, 1.0)
    grade = said(grader, right.prompt, trace(right.trace.answer))
    assert (grade.value, grade.passed, grade.subject_id) == (1.0, True, "t1")
    assert (grade.by, grade.version) == (grader.name, grader.version)
    assert grade.extracted and grade.reason


def test_a_wrong_answer_scores_zero(grader: Any) -> None:
    wrong = sample(grader, 0.0)
    assert said(grader, wrong.prompt, trace(wrong.trace.answer)).value == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   \n",
        "\\boxed{",
        "\\boxed{}",
        "####",
        "x\x00\ud800",
        "}{" * 500,
        "\\frac{1}{0}",
        "1/0",
        "9" * 5000,
        "**" * 4000,
        "(" * 3000,
        "٣ apples",
    ],
)
def test_odd_text_never_raises_and_never_wins(grader: Any, answer: str) -> None:
    grade = said(grader, sample(grader, 1.0).prompt, trace(answer))
    assert grade.value == 0.0 and grade.reason


def test_the_reason_names_an_unusual_status(grader: Any) -> None:
    right = sample(grader, 1.0)
    assert "truncated" in said(grader, right.prompt, trace(right.trace.answer, "truncated")).reason
    assert "complete" not in said(grader, right.prompt, trace(right.trace.answer)).reason


def test_a_prompt_that_cannot_be_judged_is_undecided_with_a_reason(grader: Any) -> None:
    grade = said(grader, Prompt((Message("user", "?"),)), trace("42"))
    assert grade.value is grade.passed is None and "no " in grade.reason
