"""The `instructions` grader."""

from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders.instructions import CHECKS, InstructionsGrader
from localdistill.interchange.files import read_file
from localdistill.modelfiles.shipped import shipped_path

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "exact", "value": "PLUM"}, " PLUM\n", "plum"),
    ({"kind": "one_of", "values": ["red", "blue"]}, "red.", "green"),
    ({"kind": "contains", "value": "Plum"}, "the plum is red", "the pear"),
    ({"kind": "count_words", "n": 3}, "A red jar.", "A jar."),
    ({"kind": "uppercase"}, "PLUM 3", "Plum"),
    ({"kind": "lowercase"}, "a plum.", "A plum."),
    ({"kind": "no_digits"}, "three plums", "3 plums"),
    ({"kind": "ends_with", "value": "jar"}, "Next to the jar.", "The jar is red."),
    ({"kind": "repeat", "word": "egg", "n": 3}, "egg, Egg egg", "egg egg"),
]


def grade(constraints: list[dict[str, Any]], answer: str) -> Fact:
    prompt = Prompt((Message("user", "?"),), metadata={"constraints": constraints})
    return InstructionsGrader().grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))


@pytest.mark.parametrize(("constraint", "kept", "broken"), CASES)
def test_each_kind_can_be_kept_and_broken(constraint: dict[str, Any], kept: str, broken: str) -> None:
    assert grade([constraint], kept).value == 1
    assert grade([constraint], broken).value == 0
    assert constraint["kind"] in grade([constraint], broken).reason


def test_the_cases_cover_all_kinds() -> None:
    assert {case[0]["kind"] for case in CASES} == set(CHECKS)


def test_all_must_hold_and_the_reason_names_the_broken_ones_only() -> None:
    verdict = grade([{"kind": "lowercase"}, {"kind": "contains", "value": "jar"}], "a plum")
    assert verdict.value == 0 and "contains" in verdict.reason and "lowercase" not in verdict.reason


@pytest.mark.parametrize(
    "constraint", [{"kind": "uppercas"}, {"kind": "count_words"}, {}, {"kind": "repeat", "n": "x", "word": "a"}]
)
def test_a_malformed_constraint_is_an_input_error(constraint: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        grade([constraint], "a")


def test_every_shipped_guard_reference_keeps_its_constraints() -> None:
    for number, row in read_file(shipped_path("pantry/guard.jsonl"), "prompts"):
        trace = Trace("t", row.prompt.id, "e", "m", "", row.prompt.reference or "")
        assert InstructionsGrader().grade(row.prompt, trace).value == 1, number
