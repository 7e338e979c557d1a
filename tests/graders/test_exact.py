"""The `exact` grader."""

import pytest

from localdistill.core.records import Message, Prompt, Trace
from localdistill.graders.exact import ExactGrader


@pytest.mark.parametrize(
    ("reference", "answer", "score", "extracted"),
    [
        ("12", "12", 1, "12"),
        ("12", "The answer is 12.", 1, "12"),
        ("12", "He had 20, now 12", 1, "12"),
        ("20", "He had 20, now 12", 0, "12"),
        ("12", "12 plus 3. Answer: 15", 0, "15"),
        ("1200", "\\boxed{1,200.0}", 1, "1,200.0"),
        ("12", "no idea", 0, ""),
        ("yes", "Yes.", 1, "Yes."),
        ("yes", "Answer: yes", 1, "yes"),
        ("yes", "no", 0, "no"),
        ("red, blue", "red,  blue", 1, "red,  blue"),
        ("red, blue", "blue, red", 0, "blue, red"),
    ],
)
def test_equality(reference: str, answer: str, score: int, extracted: str) -> None:
    prompt = Prompt((Message("user", "?"),), reference=reference)
    grade = ExactGrader().grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))
    assert (grade.value, grade.extracted) == (score, extracted), grade.reason


def test_case_counts_when_asked() -> None:
    prompt = Prompt((Message("user", "?"),), reference="YES")
    trace = Trace("t", prompt.id, "e", "m", "", "yes")
    assert ExactGrader().grade(prompt, trace).value == 1
    assert ExactGrader(ExactGrader.Options(ignore_case=False)).grade(prompt, trace).value == 0
